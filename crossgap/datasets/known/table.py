"""The known datasets, one row each: what lies where, under which licence, and how many items there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from crossgap.datasets.scenes.options import SPLITS, SceneOptions, option_lines, split_size

Layout = Literal[
    "emoji", "scenes", "coop", "aircraft", "imagenet", "cub", "sop", "revisited", "karpathy", "nocaps",
    "beir", "documents",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is known of a dataset before it is read.

    Args:
        layout: names the reader.
        counts: part (mostly a split) -> number of ``noun``, as officially stated.
        folder: below ``--data-root``; "" for what is embedded.
        files: what must lie in the folder.
        listing: the file that lists the items: CoOp's splits, captions, the ground truth of revisited sets.
        images: the folder of images below ``folder``; of documents that of a split, with ``{}`` for it.
        classes: how many there are; 0 where the data are no classes.
        template: prompt of a class, from CoOp's zero-shot evaluation; "" where no class is prompted.
        class_names: folder name of a class -> its words, where they differ.
        paper_split: the split that the paper reports.
        cropped: whether queries are cropped to their annotated box.
        options: what may follow the name (``name:option=value,option=value``), a line each.
    """

    layout: Layout
    title: str
    source: str
    licence: str
    counts: Mapping[str, int]
    tasks: tuple[str, ...]
    noun: str = "images"
    folder: str = ""
    files: tuple[str, ...] = ()
    listing: str = ""
    images: str = ""
    classes: int = 0
    template: str = ""
    class_names: Mapping[str, str] = field(default_factory=dict)
    paper_split: str = "test"
    cropped: bool = False
    options: tuple[str, ...] = ()


_CLASSES = ("image-class", "zero-shot-class", "zero-shot-ensemble")
_COOP = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
_NO_LICENCE = "none stated at the source"
_RESEARCH = "non-commercial research"


def _coop(
    title: str,
    folder: str,
    counts: tuple[int, int, int],
    classes: int,
    template: str,
    *,
    listing: str,
    images: str,
    licence: str,
) -> Spec:
    """Describe a classification set with CoOp's split file."""
    return Spec(
        layout="coop",
        title=title,
        source=_COOP,
        licence=licence,
        counts=dict(zip(("train", "val", "test"), counts, strict=True)),
        tasks=_CLASSES,
        folder=folder,
        files=(listing, images) if images else (listing,),
        listing=listing,
        images=images,
        classes=classes,
        template=template,
    )


def _revisited(title: str, folder: str, gallery: int, *, cropped: bool) -> Spec:
    how = "cropped to their box, as the protocol says" if cropped else "uncropped, as in the paper's code"
    return Spec(
        layout="revisited",
        title=f"{title}, queries {how}",
        source="https://github.com/filipradenovic/revisitop",
        licence="images from Flickr, under their owners' terms; annotations for research",
        counts={"queries": 70, "gallery": gallery},
        tasks=("image-easy", "image-medium", "image-hard"),
        folder=folder,
        files=(f"gnd_{folder}.pkl", "jpg"),
        listing=f"gnd_{folder}.pkl",
        images="jpg",
        cropped=cropped,
    )


def _nanobeir(name: str, corpus: int) -> Spec:
    return Spec(
        layout="beir",
        title=f"{name} of NanoBEIR: 50 queries, judged documents",
        source=f"https://huggingface.co/datasets/zeta-alpha-ai/{name}",
        licence="CC-BY-4.0",
        counts={"queries": 50, "corpus": corpus},
        tasks=("text-qrels",),
        noun="texts",
        folder=name,
        files=("corpus", "queries", "qrels"),
    )


SPECS: dict[str, Spec] = {
    "emoji": Spec(
        layout="emoji",
        title="1,857 emoji concepts by four or five designers, 64 px, with names and keywords",
        source="embedded: Noto, Twemoji, OpenMoji, Fluent, EmojiOne 2; texts from Unicode CLDR and emojilib",
        licence="by shard: Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0, MIT; texts Unicode-3.0, MIT",
        counts={"train": 1114, "val": 186, "test": 371, "sealed": 186},
        noun="concepts",
        tasks=(
            "image-concept",
            "image-subgroup",
            "text-concept",
            "text-subgroup",
            "image-text",
            "text-image",
            "zero-shot-subgroup",
            "zero-shot-concept",
        ),
    ),
    "scenes": Spec(
        layout="scenes",
        title="drawings on coloured grounds, 64 px, with captions that say as much as one asks",
        source="made from the embedded emoji by the rules of docs/scenes.md; nothing else is shipped",
        licence="of the drawings, by designer: Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0, MIT",
        counts={split: split_size(SceneOptions(), split) for split in SPLITS},
        noun="scenes",
        options=option_lines(),
        tasks=(
            "image-object",
            "image-colour",
            "image-place",
            "image-object-unlike",
            "text-object",
            "text-colour",
            "text-place",
            "image-text",
            "text-image",
            "zero-shot-object",
            "zero-shot-colour",
            "zero-shot-place",
        ),
    ),
    "cub": Spec(
        layout="cub",
        title="Caltech-UCSD Birds-200-2011: 200 species, every image queries all others",
        source="https://data.caltech.edu/records/65de6-vp158",
        licence=f"{_RESEARCH}; images under their owners' terms",
        counts={"all": 11788},
        tasks=("image-class",),
        folder="CUB_200_2011",
        files=("images.txt", "image_class_labels.txt", "classes.txt", "images"),
        images="images",
        classes=200,
    ),
    "sop": Spec(
        layout="sop",
        title="Stanford Online Products: the test half's products, every image queries all others",
        source="https://cvgl.stanford.edu/projects/lifted_struct/",
        licence=_NO_LICENCE,
        counts={"train": 59551, "test": 60502},
        tasks=("image-class",),
        folder="Stanford_Online_Products",
        files=("Ebay_train.txt", "Ebay_test.txt"),
        classes=11316,
    ),
    "roxford5k": _revisited("Revisited Oxford", "roxford5k", 4993, cropped=True),
    "roxford5k-uncropped": _revisited("Revisited Oxford", "roxford5k", 4993, cropped=False),
    "rparis6k": _revisited("Revisited Paris", "rparis6k", 6322, cropped=True),
    "rparis6k-uncropped": _revisited("Revisited Paris", "rparis6k", 6322, cropped=False),
    "caltech101": _coop(
        "Caltech101: objects", "caltech-101", (4128, 1649, 2465), 100, "a photo of a {}.",
        listing="split_zhou_Caltech101.json", images="101_ObjectCategories", licence="CC-BY-4.0",
    ),
    "dtd": _coop(
        "Describable Textures", "dtd", (2820, 1128, 1692), 47, "{} texture.",
        listing="split_zhou_DescribableTextures.json", images="images", licence=_RESEARCH,
    ),
    "eurosat": _coop(
        "EuroSAT: land use from Sentinel-2", "eurosat", (13500, 5400, 8100), 10,
        "a centered satellite photo of {}.",
        listing="split_zhou_EuroSAT.json", images="2750", licence="MIT",
    ),
    "fgvc-aircraft": Spec(
        layout="aircraft",
        title="FGVC-Aircraft: variants of aircraft",
        source=_COOP,
        licence=_RESEARCH,
        counts={"train": 3334, "val": 3333, "test": 3333},
        tasks=_CLASSES,
        folder="fgvc_aircraft",
        files=("images", *(f"images_variant_{split}.txt" for split in ("train", "val", "test"))),
        images="images",
        classes=100,
        template="a photo of a {}, a type of aircraft.",
    ),
    "food101": _coop(
        "Food-101: dishes", "food-101", (50500, 20200, 30300), 101, "a photo of {}, a type of food.",
        listing="split_zhou_Food101.json", images="images", licence="images from Foodspotting; research",
    ),
    "imagenet": Spec(
        layout="imagenet",
        title="ImageNet 2012: the validation images query the training images",
        source=_COOP,
        licence=f"{_RESEARCH} and education, on registration at image-net.org",
        counts={"train": 1281167, "test": 50000},
        tasks=_CLASSES,
        folder="imagenet",
        files=("classnames.txt", "images/train", "images/val"),
        images="images",
        classes=1000,
        template="a photo of a {}.",
    ),
    "flowers102": _coop(
        "Oxford Flowers 102: species", "oxford_flowers", (4093, 1633, 2463), 102,
        "a photo of a {}, a type of flower.",
        listing="split_zhou_OxfordFlowers.json", images="jpg", licence=_NO_LICENCE,
    ),
    "oxford-pets": _coop(
        "Oxford-IIIT Pets: breeds", "oxford_pets", (2944, 736, 3669), 37, "a photo of a {}, a type of pet.",
        listing="split_zhou_OxfordPets.json", images="images", licence="CC-BY-SA-4.0",
    ),
    "stanford-cars": _coop(
        "Stanford Cars: make, model and year", "stanford_cars", (6509, 1635, 8041), 196, "a photo of a {}.",
        listing="split_zhou_StanfordCars.json", images="", licence=_NO_LICENCE,
    ),
    "sun397": _coop(
        "SUN397: scenes", "sun397", (15880, 3970, 19850), 397, "a photo of a {}.",
        listing="split_zhou_SUN397.json", images="SUN397", licence=_RESEARCH,
    ),
    "ucf101": _coop(
        "UCF101: the middle frame of videos of actions", "ucf101", (7639, 1898, 3783), 101,
        "a photo of a person doing {}.",
        listing="split_zhou_UCF101.json", images="UCF-101-midframes", licence=_NO_LICENCE,
    ),
    "coco": Spec(
        layout="karpathy",
        title="COCO captions, Karpathy's splits",
        source="https://cs.stanford.edu/people/karpathy/deepimagesent/",
        licence="captions CC-BY-4.0; images from Flickr, under their owners' terms",
        counts={"train": 82783, "restval": 30504, "val": 5000, "test": 5000},
        tasks=("text-caption", "image-text", "text-image"),
        noun="captioned images",
        folder="coco",
        files=("dataset_coco.json",),
        listing="dataset_coco.json",
    ),
    "flickr30k": Spec(
        layout="karpathy",
        title="Flickr30k captions, Karpathy's splits",
        source="https://cs.stanford.edu/people/karpathy/deepimagesent/",
        licence=f"{_RESEARCH} and education; images from Flickr, under their owners' terms",
        counts={"train": 29000, "val": 1014, "test": 1000},
        tasks=("text-caption", "image-text", "text-image"),
        noun="captioned images",
        folder="flickr30k",
        files=("dataset_flickr30k.json",),
        listing="dataset_flickr30k.json",
        images="flickr30k-images",
        paper_split="val",
    ),
    "nocaps": Spec(
        layout="nocaps",
        title="nocaps: ten captions each of images of novel objects",
        source="https://nocaps.org/download",
        licence="see the source; images from Open Images, CC-BY-2.0",
        counts={"val": 4500},
        tasks=("text-caption", "image-text", "text-image"),
        noun="captioned images",
        folder="nocaps",
        files=("nocaps_val_4500_captions.json",),
        listing="nocaps_val_4500_captions.json",
        images="val",
        paper_split="val",
    ),
    "nano-climatefever": _nanobeir("NanoClimateFEVER", 3408),
    "nano-dbpedia": _nanobeir("NanoDBPedia", 6045),
    "nano-fever": _nanobeir("NanoFEVER", 4996),
    "nano-nfcorpus": _nanobeir("NanoNFCorpus", 2953),
    "nano-nq": _nanobeir("NanoNQ", 5035),
    "nano-scidocs": _nanobeir("NanoSCIDOCS", 2210),
    "nano-scifact": _nanobeir("NanoSciFact", 2919),
    "imdb": Spec(
        layout="documents",
        title="IMDB reviews: two class names query the reviews",
        source="https://ai.stanford.edu/~amaas/data/sentiment/",
        licence=_NO_LICENCE,
        counts={"train": 25000, "test": 25000},
        tasks=("text-class",),
        noun="texts",
        folder="aclImdb",
        files=("train", "test"),
        images="{}",
        classes=2,
        class_names={"neg": "negative", "pos": "positive"},
    ),
    "20newsgroups": Spec(
        layout="documents",
        title="20 Newsgroups, split by date: twenty class names query the posts",
        source="http://qwone.com/~jason/20Newsgroups/",
        licence=_NO_LICENCE,
        counts={"train": 11314, "test": 7532},
        tasks=("text-class",),
        noun="texts",
        folder="20news-bydate",
        files=("20news-bydate-train", "20news-bydate-test"),
        images="20news-bydate-{}",
        classes=20,
    ),
}  # fmt: skip

# The sets of the paper's tables [P: data_utils.py, poster], by what they measure.
PAPER_IMAGE_SETS = (
    "cub", "sop", "roxford5k-uncropped", "rparis6k-uncropped", "caltech101", "dtd", "eurosat",
    "fgvc-aircraft", "food101", "imagenet", "flowers102", "oxford-pets", "stanford-cars", "sun397", "ucf101",
)  # fmt: skip
PAPER_TEXT_SETS = ("coco", "flickr30k", "nocaps")
PAPER_LONG_TEXT_SETS = (
    "nano-climatefever", "nano-dbpedia", "nano-fever", "nano-nfcorpus", "nano-nq", "nano-scidocs",
    "nano-scifact", "imdb", "20newsgroups",
)  # fmt: skip
PAPER_CLASS_SETS = tuple(name for name in PAPER_IMAGE_SETS if SPECS[name].template)
