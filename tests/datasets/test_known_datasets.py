"""The known datasets, on miniatures in their official layouts: what is read, asked, checked and refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossgap.datasets.__main__ import main as list_datasets
from crossgap.datasets.known.check import check_root
from crossgap.datasets.known.table import (
    PAPER_CLASS_SETS,
    PAPER_IMAGE_SETS,
    PAPER_LONG_TEXT_SETS,
    PAPER_TEXT_SETS,
    SPECS,
    Spec,
)
from crossgap.datasets.load import load_dataset
from crossgap.datasets.probes import probe_tasks
from crossgap.datasets.tasks import Dataset, Task
from crossgap.errors import InputError
from crossgap.probes.shots import probe_columns
from crossgap.vocabulary import PROBES
from tests.datasets.test_datasets import check_contract, relevant_and_ignored
from tests.miniatures import WRITERS, picture, put, write_all

PLACED = [name for name, spec in SPECS.items() if spec.folder]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Spec]]:
    root = tmp_path_factory.mktemp("data")
    return root, write_all(root)


@pytest.fixture
def root(written: tuple[Path, dict[str, Spec]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole root, with the counts of its miniatures in place of the official ones."""
    for name, spec in written[1].items():
        monkeypatch.setitem(SPECS, name, spec)
    return written[0]


@pytest.fixture
def own_root(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(root, tmp_path / "own")


def load(root: Path, name: str, **given: object) -> Dataset:
    return load_dataset(name, data_root=root, split=SPECS[name].paper_split, **given)  # type: ignore[arg-type]


def task(dataset: Dataset, name: str) -> Task:
    return next(task for task in dataset.tasks if task.name == name)


class TestTable:
    def test_the_paper_has_15_image_sets_12_text_sets_and_11_sets_of_classes(self) -> None:
        assert len(PAPER_IMAGE_SETS) == 15
        assert len(PAPER_TEXT_SETS) + len(PAPER_LONG_TEXT_SETS) == 12
        assert len(PAPER_CLASS_SETS) == 11
        assert {*PAPER_IMAGE_SETS, *PAPER_TEXT_SETS, *PAPER_LONG_TEXT_SETS} <= set(SPECS)

    @pytest.mark.parametrize("name", PLACED)
    def test_every_row_says_what_a_user_needs(self, name: str) -> None:
        spec = SPECS[name]
        assert spec.layout in WRITERS
        assert spec.source.startswith("http")
        assert spec.licence
        assert all(count > 0 for count in spec.counts.values())
        assert spec.template.count("{}") == (1 if "zero-shot-class" in spec.tasks else 0)


class TestReading:
    @pytest.mark.parametrize("name", PLACED)
    def test_contract_and_spec(self, root: Path, name: str) -> None:
        dataset = load(root, name)
        check_contract(dataset)
        expected = SPECS[name].tasks if name != "nocaps" else ("text-caption",)  # it has no images here
        assert [task.name for task in dataset.tasks] == list(expected)

    @pytest.mark.parametrize("name", PLACED)
    def test_a_limit_keeps_the_contract_and_says_so(self, root: Path, name: str) -> None:
        some = load(root, name, limit=2)
        check_contract(some)
        assert all("imited to" in task.protocol for task in some.tasks)

    def test_classes_of_coop_are_sought_in_the_training_images(self, root: Path) -> None:
        dataset = load(root, "oxford-pets")
        retrieval = task(dataset, "image-class")
        assert (len(retrieval.query), len(retrieval.gallery)) == (9, 12)
        assert not set(retrieval.query.ids) & set(retrieval.gallery.ids)
        assert not retrieval.drop_self
        assert not retrieval.extras
        relevant, _ = relevant_and_ignored(retrieval)
        assert relevant.sum(axis=1).tolist() == [4] * 9

    def test_prompts_are_coops_and_their_ensemble(self, root: Path) -> None:
        pets = load(root, "oxford-pets")
        single = task(pets, "zero-shot-class").gallery.contents
        assert single[0] == "a photo of a blue thing, a type of pet."
        several = task(pets, "zero-shot-ensemble").gallery.contents[0]
        assert isinstance(several, tuple)
        assert len(several) == len(set(several)) == 8
        assert several[-1] == single[0]
        assert "itap of a blue thing." in several

    def test_two_classes_of_imagenet_may_have_one_name(self, root: Path) -> None:
        dataset = load(root, "imagenet")
        prompts = task(dataset, "zero-shot-class").gallery
        assert prompts.labels == ("n01440764 tench", "n04355933 sunglasses", "n04356056 sunglasses")
        assert prompts.contents[1] == prompts.contents[2] == "a photo of a sunglasses."
        relevant, _ = relevant_and_ignored(task(dataset, "image-class"))
        assert relevant.sum(axis=1).tolist() == [4] * 6

    @pytest.mark.parametrize("name", PLACED)
    def test_sets_of_classes_have_probes_where_the_splits_share_classes(self, root: Path, name: str) -> None:
        dataset = load(root, name)
        if name == "sop":  # its training half shows other products
            with pytest.raises(InputError, match="none of the"):
                probe_tasks(dataset, PROBES)
            return
        found = [task.name for task in probe_tasks(dataset, PROBES)]
        assert found == (list(probe_columns()) if name in PAPER_CLASS_SETS else [])

    @pytest.mark.parametrize("name", ["cub", "sop"])
    def test_images_query_all_others_of_the_split(self, root: Path, name: str) -> None:
        retrieval = task(load(root, name), "image-class")
        assert retrieval.query.ids == retrieval.gallery.ids
        assert retrieval.drop_self
        assert retrieval.extras == ("mAP@R+1",)

    def test_revisited_answers_are_those_of_the_ground_truth(self, root: Path) -> None:
        dataset = load(root, "roxford5k")
        places = {}
        for setting in ("easy", "medium", "hard"):
            relevant, ignored = relevant_and_ignored(task(dataset, f"image-{setting}"))
            places[setting] = [
                (np.flatnonzero(right).tolist(), np.flatnonzero(out).tolist())
                for right, out in zip(relevant, ignored, strict=True)
            ]
        assert places["easy"] == [([0, 1], [2, 3]), ([4], [5, 6]), ([], [7, 8])]
        assert places["medium"] == [([0, 1, 2], [3]), ([4, 5, 6], []), ([7], [8])]
        assert places["hard"] == [([2], [0, 1, 3]), ([5, 6], [4]), ([7], [8])]
        assert dataset.tasks[0].query.labels == ("all_souls", "all_souls", "ashmolean")
        assert dataset.tasks[0].headline == "mAP_trapezoidal"
        assert dataset.tasks[0].extras[1:] == ("mP@1", "mP@5", "mP@10")

    def test_queries_of_revisited_sets_are_cropped_unless_the_name_says_not(self, root: Path) -> None:
        cropped = task(load(root, "rparis6k"), "image-easy").query
        whole = task(load(root, "rparis6k-uncropped"), "image-easy").query
        assert whole.image(0).size == (32, 24)
        assert cropped.image(0).size == (18, 16)
        assert cropped.image(0).tobytes() == whole.image(0).crop((2, 3, 20, 19)).tobytes()
        assert cropped.content_hash != whole.content_hash

    def test_first_captions_query_the_others(self, root: Path) -> None:
        retrieval = task(load(root, "flickr30k"), "text-caption")
        assert (len(retrieval.query), len(retrieval.gallery)) == (4, 8)
        assert retrieval.query.texts()[0] == "a red cat of val."
        relevant, ignored = relevant_and_ignored(retrieval)
        assert relevant.sum(axis=1).tolist() == [2] * 4
        assert not ignored.any()

    def test_captions_are_enough(self, root: Path) -> None:
        dataset = load(root, "nocaps")
        assert dataset.pairs is None
        assert "captions alone" in dataset.tasks[0].protocol
        assert load(root, "coco").pairs is not None

    def test_documents_are_cut_or_summarised_and_the_protocol_says_which(self, own_root: Path) -> None:
        name = "nano-scifact"
        before = load(own_root, name)
        assert "are cut by its tokenizer" in before.tasks[0].protocol
        summaries = pd.DataFrame({"id": [f"d{place}" for place in range(6)], "summary": list("uvwxyz")})
        summaries.to_csv(own_root / "NanoSciFact" / "summaries.csv", index=False)
        after = load(own_root, name)
        assert after.tasks[0].gallery.texts() == list("uvwxyz")
        assert "summaries in summaries.csv" in after.tasks[0].protocol
        assert after.hash != before.hash
        summaries[1:].to_csv(own_root / "NanoSciFact" / "summaries.csv", index=False)
        with pytest.raises(InputError, match="no summary of 1 documents, the first is 'd0'"):
            load(own_root, name)

    def test_judgements_of_beir(self, root: Path) -> None:
        retrieval = task(load(root, "nano-nq"), "text-qrels")
        relevant, _ = relevant_and_ignored(retrieval)
        assert [np.flatnonzero(row).tolist() for row in relevant] == [[1, 4], [5]]
        assert retrieval.extras == ("nDCG@10",)

    def test_documents_lose_headers_and_classes_speak(self, root: Path) -> None:
        groups = task(load(root, "20newsgroups"), "text-class")
        assert groups.query.texts() == ["rec autos", "sci space"]
        assert groups.gallery.texts()[0] == "rec.autos words 0 test, <br />and more"
        reviews = task(load(root, "imdb"), "text-class")
        assert reviews.query.texts() == ["negative", "positive"]
        assert reviews.gallery.texts()[0] == "neg words 0 test, and more"
        assert len(reviews.gallery) == 6

    def test_a_known_set_needs_a_root_and_its_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"not embedded: say with --data-root where CUB_200_2011/"):
            load_dataset("cub")
        with pytest.raises(InputError, match=r"CUB_200_2011 not found; see https://data.caltech.edu"):
            load_dataset("cub", data_root=tmp_path)

    def test_a_missing_split_is_named(self, root: Path) -> None:
        with pytest.raises(InputError, match="'nocaps': no split 'test'; it has val"):
            load_dataset("nocaps", data_root=root)
        with pytest.raises(InputError, match="'imagenet': no split 'val'; it has train, test"):
            load_dataset("imagenet", data_root=root, split="val")


class TestPickle:
    def test_a_pickle_that_names_code_is_not_run(self, own_root: Path) -> None:
        class Attack:
            def __reduce__(self) -> tuple[object, ...]:
                return os.mkdir, (str(own_root / "owned"),)

        put(own_root / "roxford5k" / "gnd_roxford5k.pkl", pickle.dumps({"gnd": [Attack()]}))
        with pytest.raises(InputError, match=r"names posix.mkdir, which is not let in"):
            load(own_root, "roxford5k")
        assert not (own_root / "owned").exists()

    def test_a_pickle_that_asks_for_a_codec_is_refused(self, own_root: Path) -> None:
        data = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."
        put(own_root / "roxford5k" / "gnd_roxford5k.pkl", data)
        with pytest.raises(InputError, match="asks for the codec 'rot13', which is not let in"):
            load(own_root, "roxford5k")

    @pytest.mark.parametrize("data", [b"", b"not a pickle", pickle.dumps([1]), pickle.dumps({"gnd": []})])
    def test_other_pickles_are_refused_by_name(self, own_root: Path, data: bytes) -> None:
        put(own_root / "roxford5k" / "gnd_roxford5k.pkl", data)
        with pytest.raises(InputError, match=r"gnd_roxford5k.pkl: "):
            load(own_root, "roxford5k")

    def test_pickles_of_numpy_1_are_read(self, own_root: Path) -> None:
        path = own_root / "roxford5k" / "gnd_roxford5k.pkl"
        data = path.read_bytes()
        assert b"numpy._core.multiarray" in data or b"numpy.core.multiarray" in data
        before = load(own_root, "roxford5k")
        path.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
        assert load(own_root, "roxford5k").hash == before.hash


class TestCheck:
    def test_a_whole_root(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert list_datasets(data_root=root) == 0
        said = capsys.readouterr().out
        assert f"{len(PLACED)} whole, 0 damaged, 0 missing" in said

    def test_an_empty_root_misses_everything_and_is_no_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert list_datasets(data_root=tmp_path) == 0
        assert f"0 whole, 0 damaged, {len(PLACED)} missing" in capsys.readouterr().out
        assert list_datasets(data_root=tmp_path, dataset=("cub",)) == 2
        with pytest.raises(InputError, match=r"no such folder; make it, and place .*CUB_200_2011"):
            list_datasets(data_root=tmp_path / "nowhere")
        with pytest.raises(InputError, match="Did you mean 'cub'"):
            list_datasets(data_root=tmp_path, dataset=("cup",))

    def damaged(self, root: Path, name: str) -> str:
        (found,) = check_root(root, [name])
        assert found.state == "damaged"
        assert list_datasets(data_root=root, dataset=(name,)) == 2
        return "\n".join(found.problems)

    def test_the_official_counts(self, written: tuple[Path, dict[str, Spec]]) -> None:
        (found,) = check_root(written[0], ["eurosat"])  # a miniature, against the real counts
        assert found.problems == (
            "part 'train' has 12 images, officially 13500",
            "part 'val' has 9 images, officially 5400",
            "part 'test' has 9 images, officially 8100",
            "it has 3 classes, officially 10",
        )

    def test_a_missing_file_of_the_layout(self, own_root: Path) -> None:
        (own_root / "CUB_200_2011" / "classes.txt").unlink()
        assert "CUB_200_2011/classes.txt not found" in self.damaged(own_root, "cub")

    def test_a_missing_split(self, own_root: Path) -> None:
        path = own_root / "dtd" / SPECS["dtd"].listing
        held = json.loads(path.read_text())
        del held["val"]
        path.write_text(json.dumps(held))
        assert "part 'val' is missing; there is train, test" in self.damaged(own_root, "dtd")

    def test_a_missing_image(self, own_root: Path) -> None:
        (own_root / "dtd" / "images" / "red_thing" / "test_0001.jpg").unlink()
        said = self.damaged(own_root, "dtd")
        assert "part 'test': 1 image files not found, the first is" in said
        assert "test_0001.jpg" in said

    def test_an_image_that_cannot_be_decoded(self, own_root: Path) -> None:
        put(own_root / "sun397" / "SUN397" / "red_thing" / "test_0000.jpg", picture(0, 0)[:200])
        said = self.damaged(own_root, "sun397")
        assert "part 'test': " in said
        assert "cannot be decoded" in said

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            ("{", "not JSON"),
            ("[]", "expected an object"),
            ('{"test": [["a.jpg", 1]]}', r"expected [image, number, class name]"),
        ],
    )
    def test_a_damaged_listing(self, own_root: Path, data: str, says: str) -> None:
        put(own_root / "dtd" / SPECS["dtd"].listing, data)
        said = self.damaged(own_root, "dtd")
        assert says in said
        assert SPECS["dtd"].listing in said

    @pytest.mark.parametrize(
        ("name", "path", "data", "says"),
        [
            ("cub", "images.txt", "1\n", "has 1 fields, expected 2"),
            ("cub", "image_class_labels.txt", "1 1\n", "has no class in image_class_labels.txt"),
            ("imagenet", "classnames.txt", "n01440764 tench\n", "no name of the class n04355933"),
            ("coco", "dataset_coco.json", '{"images": [{"split": "test"}]}', "entry 0 of images lacks"),
            ("coco", "dataset_coco.json", '{"pictures": []}', "no list 'images'"),
            ("nocaps", "nocaps_val_4500_captions.json", '{"images": [{"id": 1, "file_name": "a"}], '
             '"annotations": []}', "an entry lacks 1"),
            ("nano-nq", "qrels/train-00000-of-00001.parquet", "no parquet", "not readable as parquet"),
        ],
    )  # fmt: skip
    def test_damaged_lists_of_other_layouts(
        self, own_root: Path, name: str, path: str, data: str, says: str
    ) -> None:
        put(own_root / SPECS[name].folder / path, data)
        assert says in self.damaged(own_root, name)

    def test_a_judgement_of_an_unknown_document(self, own_root: Path) -> None:
        path = own_root / "NanoNQ" / "qrels" / "train-00000-of-00001.parquet"
        pd.DataFrame({"query-id": ["q0", "q1"], "corpus-id": ["d9", "d1"]}).to_parquet(path)
        assert "query 'q0' judges the unknown document 'd9'" in self.damaged(own_root, "nano-nq")
        pd.DataFrame({"query-id": ["q0"], "corpus-id": ["d1"]}).to_parquet(path)
        assert "query 'q1' has no judgement" in self.damaged(own_root, "nano-nq")
