"""Models as ``transformers`` keeps them: equal to the library's own, refused with the reason, never run."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from crossgap import encode
from crossgap.command import run_command
from crossgap.encoders.backbones import BACKBONES, backbone_of
from crossgap.encoders.hugging_face import folder as folders
from crossgap.encoders.loading import CONFIG_FILE, WEIGHTS_FILE, load_encoder
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.projectors import Projectors, linear_projectors
from crossgap.encoders.trained_runs import trained_run
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert
from crossgap.inversion.presets import preset
from pretrain.recipes import FINE_TUNING
from pretrain.start import start_model
from tests.tiny_hugging_face import CONTEXT, SIZE, WRITERS, write

TEXTS = [
    "a photo of a cat",
    "",
    "A Big RED dog, in the park!  Isn't it?",
    "naïve café 写真 🐈 1984",
    "two\ttrees\n and a bus ",
    "the red bus in the park, one dog " * 5,
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("transformers")
    return {kind: write(kind, root / kind) for kind in WRITERS}


@pytest.fixture
def folder(kept: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of CLIP's that a test may damage."""
    return Path(shutil.copytree(kept["hf-clip"], tmp_path / "clip"))


@pytest.fixture(params=list(WRITERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load(folder: Path, precision: Any = "fp64") -> OpenClipEncoder:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*keeps capital letters")
        return load_encoder(str(folder), device="cpu", precision=precision)


def images() -> list[Image.Image]:
    generator = np.random.default_rng(0)

    def noise(*shape: int) -> Image.Image:
        return Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))

    palette = noise(40, 50, 3).convert("P")
    return [noise(*shape) for shape in ((70, 51, 3), (33, 90, 3), (32, 32, 3), (7, 9, 3), (60, 40))] + [
        palette
    ]


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def features(output: Any) -> Tensor:
    """Of both major versions of the library."""
    return F.normalize(getattr(output, "pooler_output", output), dim=-1)


def test_features_are_those_of_the_library(kept: dict[str, Path], kind: str) -> None:
    encoder = load(kept[kind])
    model = transformers.AutoModel.from_pretrained(kept[kind]).double().eval()
    tokens_BL = encoder.tokenize(TEXTS)
    pixels_BCHW = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        text_BD = features(model.get_text_features(tokens_BL))
        image_BD = features(model.get_image_features(pixels_BCHW))
    torch.testing.assert_close(encoder.encode_text(tokens_BL), text_BD, rtol=0, atol=1e-12)
    torch.testing.assert_close(encoder.encode_image(pixels_BCHW), image_BD, rtol=0, atol=1e-12)
    assert (text_BD[0] - text_BD[2]).norm() > 1e-3
    assert (image_BD[0] - image_BD[1]).norm() > 1e-3


def test_pixels_and_ids_are_those_of_the_librarys_processor(kept: dict[str, Path], kind: str) -> None:
    encoder = load(kept[kind])
    processor = transformers.AutoProcessor.from_pretrained(kept[kind])
    expected = processor(images=images(), return_tensors="pt")["pixel_values"]
    assert torch.equal(encoder.preprocess(images()), expected)
    ids = processor(
        text=TEXTS, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    assert torch.equal(encoder.tokenize(TEXTS), ids["input_ids"])
    assert encoder.context_length == CONTEXT
    own = encoder.encode_image(images()[:2])
    rgb = processor(images=[image.convert("RGB") for image in images()[:2]], return_tensors="pt")
    torch.testing.assert_close(own, encoder.encode_image(rgb["pixel_values"]))


def converted_clip(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's tensors under open_clip's names, written out one by one."""
    ours = {
        "logit_scale": theirs["logit_scale"],
        "positional_embedding": theirs["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "ln_final.weight": theirs["text_model.final_layer_norm.weight"],
        "ln_final.bias": theirs["text_model.final_layer_norm.bias"],
        "text_projection": theirs["text_projection.weight"].T,
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": theirs["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": theirs["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        ours[f"visual.ln_pre.{kind}"] = theirs[f"vision_model.pre_layrnorm.{kind}"]
        ours[f"visual.ln_post.{kind}"] = theirs[f"vision_model.post_layernorm.{kind}"]
        for tower, prefix in (("text_model", ""), ("vision_model", "visual.")):
            for layer in range(2):
                block = f"{tower}.encoder.layers.{layer}"
                own = f"{prefix}transformer.resblocks.{layer}"
                parts = [theirs[f"{block}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                ours[f"{own}.attn.in_proj_{kind}"] = torch.cat(parts)
                ours[f"{own}.attn.out_proj.{kind}"] = theirs[f"{block}.self_attn.out_proj.{kind}"]
                ours[f"{own}.ln_1.{kind}"] = theirs[f"{block}.layer_norm1.{kind}"]
                ours[f"{own}.ln_2.{kind}"] = theirs[f"{block}.layer_norm2.{kind}"]
                ours[f"{own}.mlp.c_fc.{kind}"] = theirs[f"{block}.mlp.fc1.{kind}"]
                ours[f"{own}.mlp.c_proj.{kind}"] = theirs[f"{block}.mlp.fc2.{kind}"]
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def test_clips_features_are_those_of_its_weights_in_open_clips_format(
    kept: dict[str, Path], tmp_path: Path
) -> None:
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": SIZE}
    text = {"context_length": CONTEXT, "width": 24, "heads": 2, "layers": 2, "mlp_ratio": 50.5 / 24}
    config = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {**vision, "mlp_ratio": 50.5 / 32},
        "text_cfg": text,
    }
    about = {"model_cfg": config, "preprocess_cfg": {}}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(about))
    theirs = load_file(kept["hf-clip"] / "model.safetensors")
    save_file(converted_clip(theirs), tmp_path / WEIGHTS_FILE)
    ours, plain = load(kept["hf-clip"]), load(tmp_path)
    pixels_BCHW = plain.preprocess([image.convert("RGB") for image in images()]).double()
    assert torch.equal(ours.encode_image(pixels_BCHW), plain.encode_image(pixels_BCHW))
    # open_clip pads with 0 what transformers pads with the end of the text; nothing depends on it
    words = ["a photo of a cat", "two trees", ""]
    assert not torch.equal(ours.tokenize(words), plain.tokenize(words))
    torch.testing.assert_close(
        ours.encode_text(ours.tokenize(words)), plain.encode_text(plain.tokenize(words)), rtol=0, atol=1e-14
    )
    assert isinstance(projectors := linear_projectors(ours), Projectors)
    assert torch.equal(projectors.image, linear_projectors(plain).image)
    assert ours.fingerprint != plain.fingerprint  # other tokens, perhaps other pixels


@register_model
def crossgap_tiny_siglip(pretrained: bool = False, **changes: Any) -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    options = {
        "class_token": False,
        "act_layer": partial(nn.GELU, approximate="tanh"),
        "mlp_ratio": 49.5 / 32,
    }
    known = {name: value for name, value in changes.items() if name in ("num_classes", "global_pool")}
    return VisionTransformer(**sizes, **options, **known, norm_layer=partial(nn.LayerNorm, eps=1e-6))


@pytest.mark.parametrize("kind", ["hf-siglip", "hf-siglip2"])
def test_siglips_features_are_those_of_its_weights_in_open_clips_model(
    kept: dict[str, Path], kind: str
) -> None:
    encoder = load(kept[kind])
    vision = {"timm_model_name": "crossgap_tiny_siglip", "timm_pool": "map", "timm_proj": "none"}
    text = {
        "context_length": CONTEXT,
        "vocab_size": encoder.token_embedding.num_embeddings,
        "width": 32,
        "heads": 2,
        "layers": 2,
        "mlp_ratio": 49.5 / 32,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "act_kwargs": {"approximate": "tanh"},
        "norm_kwargs": {"eps": 1e-6},
    }
    model = open_clip.CustomTextCLIP(32, {**vision, "image_size": SIZE}, text, init_logit_bias=-10).double()
    state = encoder.model.state_dict()
    scalars = {name: state[name][0] for name in ("logit_scale", "logit_bias")}
    model.load_state_dict({**state, **scalars})
    model.eval()
    tokens_BL = encoder.tokenize(TEXTS)
    pixels_BCHW = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        text_BD, image_BD = model.encode_text(tokens_BL), model.encode_image(pixels_BCHW)
    assert torch.equal(encoder.encode_text(tokens_BL), F.normalize(text_BD, dim=-1))
    assert torch.equal(encoder.encode_image(pixels_BCHW), F.normalize(image_BD, dim=-1))
    assert "perceptron behind attention pooling" in str(linear_projectors(encoder))


@pytest.mark.parametrize("into", ["text", "image"])
def test_inversion_runs_lean_and_lowers_the_loss(kept: dict[str, Path], kind: str, into: Any) -> None:
    encoder = load(kept[kind], "fp32")
    targets = encoder.encode_image(images()[:3]) if into == "text" else encoder.encode_text(TEXTS[:3])
    config = InversionConfig(steps=20, num_tokens=2)
    ids = ["a", "b", "c"]
    found = invert(encoder, targets, into=into, config=config, item_ids=ids, engine="lean")
    assert (found.losses[:, -1] < found.losses[:, 0]).all()
    tower = invert(encoder, targets, into=into, config=config, item_ids=ids, engine="tower")
    assert F.cosine_similarity(found.features, tower.features).min() > 0.9999


def test_an_end_that_old_files_call_2_is_the_highest_id(folder: Path) -> None:
    """OpenAI's first files say eos_token_id 2, and the library pools the highest id."""
    before = load(folder)
    config = json.loads((folder / "config.json").read_text())
    change(folder / "config.json", text_config={**config["text_config"], "eos_token_id": 2})
    after = load(folder)
    assert (before.causal, after.causal) == (True, True)
    assert torch.equal(before.encode_text(TEXTS), after.encode_text(TEXTS))
    model = transformers.AutoModel.from_pretrained(folder).double().eval()
    with torch.no_grad():
        expected = features(model.get_text_features(after.tokenize(TEXTS)))
    torch.testing.assert_close(after.encode_text(TEXTS), expected, rtol=0, atol=1e-12)


def test_weights_are_read_from_any_file_that_holds_them(folder: Path) -> None:
    """In parts, in half precision, beside buffers of older versions, and as PyTorch's file of tensors."""
    expected = load(folder).fingerprint
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {f"model-0000{n}-of-00002.safetensors": names[n - 1 :: 2] for n in (1, 2)}
    for file, held in parts.items():
        save_file({name: state[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert load(folder).fingerprint == expected
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors: missing, damaged"):
        load(folder)
    weight_map[names[0]] = "../elsewhere.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match=r"'\.\./elsewhere\.safetensors' is no name of a file"):
        load(folder)
    (folder / "model.safetensors.index.json").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert load(folder).fingerprint == expected
    torch.save({name: tensor.half() for name, tensor in state.items()}, folder / "pytorch_model.bin")
    half = load(folder)
    assert half.encode_text(TEXTS).dtype == torch.float64
    assert half.fingerprint != expected


class Runs:
    """What a pickle could do."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_nothing_of_a_folder_runs(folder: Path, tmp_path: Path) -> None:
    """Neither a pickle among weights nor code that configurations name."""
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: pass\n"
    )
    before = load(folder).fingerprint
    change(folder / "config.json", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"})
    change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "own.Own"})
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]})
    assert load(folder).fingerprint == before
    assert not mark.exists()
    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Runs(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled objects"):
        load(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (["model.safetensors"], "without model.safetensors"),
        (["vocab.json"], "without a tokenizer"),
        (["merges.txt"], "vocab.json and merges.txt"),
        (["preprocessor_config.json"], "without preprocessor_config.json or processor_config.json"),
        (["model.safetensors", "vocab.json"], "without model.safetensors .*; without a tokenizer"),
    ],
)
def test_missing_files_are_named(folder: Path, missing: list[str], named: str) -> None:
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(InputError, match=named):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "siglip2"}, "NaFlex"),
        ({"model_type": "blip"}, r"model_type in .*config.json 'blip'.*Known: clip, siglip"),
        ({"model_type": None}, "Known: clip, siglip"),
        ({"projection_dim": 17}, r"text_projection has shape \(24, 16\), expected \(24, 17\)"),
        (
            {"vision_config": {"hidden_act": "relu"}},
            "hidden_act of the configuration of 'clip_vision_model' 'relu'",
        ),
        ({"vision_config": {"hidden_act": "gelu"}}, "activations of the two towers differ"),
        ({"vision_config": {"image_size": [32, 48]}}, "image_size is .* expected one whole number"),
        ({"vision_config": {"num_hidden_layers": 3}}, "unknown tensors: none; missing: visual.*resblocks.2"),
        (
            {"vision_config": {"num_hidden_layers": 1}},
            r"unknown tensors: vision_model|unknown tensors: visual",
        ),
        ({"text_config": {"vocab_size": "many"}}, "the configuration cannot be read"),
    ],
)
def test_what_our_towers_do_not_compute_is_refused(folder: Path, changes: dict[str, Any], named: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    whole = {
        name: {**config[name], **value} if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    change(folder / "config.json", **whole)
    with pytest.raises(InputError, match=named):
        load(folder)


def test_siglip_without_its_pooling_head_is_refused(kept: dict[str, Path], tmp_path: Path) -> None:
    own = Path(shutil.copytree(kept["hf-siglip"], tmp_path / "own"))
    config = json.loads((own / "config.json").read_text())
    change(own / "config.json", vision_config={**config["vision_config"], "vision_use_head": False})
    with pytest.raises(InputError, match="no pooling head"):
        load(own)


def test_parts_of_two_models_are_refused(folder: Path, kept: dict[str, Path], tmp_path: Path) -> None:
    change(folder / "preprocessor_config.json", crop_size={"height": 24, "width": 24})
    with pytest.raises(
        InputError, match=r"pixels of shape \(3, 24, 24\), its image tower takes \(3, 32, 32\)"
    ):
        load(folder)
    own = Path(shutil.copytree(kept["hf-siglip"], tmp_path / "own"))
    (own / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(folder / name, own / name)
    with pytest.raises(InputError, match=r"writes the id 494\d\d, but its text tower embeds ids below 400"):
        load(own)


def test_a_tokenizer_of_siglip_that_keeps_capitals_is_named(kept: dict[str, Path]) -> None:
    with pytest.warns(UserWarning, match="keeps capital letters, which siglip was not trained on"):
        load_encoder(str(kept["hf-siglip2"]), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_encoder(str(kept["hf-siglip"]), device="cpu")
        load_encoder(str(kept["hf-clip"]), device="cpu")


def test_siglips_released_tokenizer_is_read_with_sentencepiece(kept: dict[str, Path], tmp_path: Path) -> None:
    """Its file is spiece.model; capitals and punctuation fall away before it."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    own = Path(shutil.copytree(kept["hf-siglip"], tmp_path / "own"))
    (own / "tokenizer.json").unlink()
    change(own / "tokenizer_config.json", tokenizer_class="SiglipTokenizer", model_input_names=["input_ids"])
    with (own / "spiece.model").open("wb") as file:
        trainer.train(
            sentence_iterator=iter([text.lower() for text in TEXTS if text] * 20),
            model_writer=file,
            vocab_size=60,
            pad_id=-1,
            bos_id=-1,
            eos_id=1,
            unk_id=2,
            control_symbols=["<pad>"],
            hard_vocab_limit=False,
        )
    encoder = load_encoder(str(own), device="cpu")
    assert type(encoder.tokenizer.tokenizer).__name__ == "SiglipTokenizer"
    processor = transformers.AutoProcessor.from_pretrained(own)
    ids = processor(
        text=TEXTS, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    assert torch.equal(encoder.tokenize(TEXTS), ids["input_ids"])
    assert torch.equal(*encoder.tokenize(["A photo, of a CAT!", "a photo of a cat"]))
    prompt = encoder.prompt("a photo of {}", 2)
    targets = encoder.encode_image(images()[:2])
    config = InversionConfig(steps=10, num_tokens=len(prompt.positions))
    found = invert(encoder, targets, into="text", config=config, item_ids=["a", "b"], engine="lean")
    assert (found.losses[:, -1] < found.losses[:, 0]).all()


def test_damaged_files_are_named(folder: Path) -> None:
    for name, named in (
        ("preprocessor_config.json", "the image processor cannot be read"),
        ("vocab.json", "the tokenizer cannot be read"),
        ("model.safetensors", r"model\.safetensors: missing, damaged or cut off"),
    ):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=named):
            load(folder)
        (folder / name).write_bytes(whole)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="neither a checkpoint folder"):
        load(folder)


def test_without_the_library_its_installation_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: Any, **__: Any) -> None:
        raise ImportError("\nSiglipTokenizer requires the SentencePiece library but it was not found")

    with monkeypatch.context() as patched:
        patched.setattr(transformers.AutoTokenizer, "from_pretrained", lacking)
        with pytest.raises(InputError, match=r"SentencePiece library.*pip install '\.\[hf\]'"):
            load(folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"format of transformers: pip install '\.\[hf\]'"):
        load(folder)


def test_a_repository_of_the_hub_is_read_from_the_cache(
    kept: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--someone--tiny-clip"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    snapshot = Path(shutil.copytree(kept["hf-clip"], cached / "snapshots" / ("0" * 40)))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(folders, "answers", lambda _address: False)
    encoder = load_encoder("hf:someone/tiny-clip", device="cpu")
    assert encoder.fingerprint == load_encoder(str(kept["hf-clip"]), device="cpu").fingerprint
    assert encoder.name == "hf:someone/tiny-clip"
    with pytest.raises(InputError, match=r"'hf:someone/other' is not on this machine.*does not answer"):
        load_encoder("hf:someone/other")
    with pytest.raises(InputError, match="expected hf:OWNER/NAME"):
        load_encoder("hf:tiny")
    with pytest.raises(InputError, match="brings its own weights; leave it out"):
        load_encoder("hf:someone/tiny-clip", "openai")
    (snapshot / "vocab.json").unlink()  # a fetch that was broken off is not a model
    with pytest.raises(InputError, match="is not on this machine"):
        load_encoder("hf:someone/tiny-clip")


def test_a_repository_is_fetched_where_it_is_not_here(
    kept: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's file comes last, and only where there are no safetensors."""
    asked: list[list[str]] = []
    here = tmp_path / "snapshot"

    def download(
        repository: str, *, allow_patterns: list[str] | None = None, local_files_only: bool = False
    ) -> str:
        assert repository == "someone/tiny"
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("none")
        asked.append(allow_patterns)
        here.mkdir(exist_ok=True)
        for file in kept["hf-clip"].iterdir():
            if file.name in allow_patterns and file.name != "model.safetensors":
                shutil.copy(file, here)
        if "pytorch_model.bin" in allow_patterns:
            torch.save(load_file(kept["hf-clip"] / "model.safetensors"), here / "pytorch_model.bin")
        return str(here)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(folders, "answers", lambda _address: True)
    encoder = load_encoder("hf:someone/tiny", device="cpu")
    assert encoder.fingerprint == load_encoder(str(kept["hf-clip"]), device="cpu").fingerprint
    assert len(asked) == 2
    assert "pytorch_model.bin" not in asked[0]
    assert asked[1] == ["pytorch_model.bin"]


def test_names_of_the_papers_backbones_have_their_settings() -> None:
    assert backbone_of("hf:openai/clip-vit-large-patch14") == "clip-l14"
    assert preset("hf:google/siglip-base-patch16-224", "image").num_tokens == 4
    named = [backbone.transformers for backbone in BACKBONES.values() if backbone.transformers]
    assert all(name.startswith(folders.HUB) for name in named)
    assert len(set(named)) == len(named) == 3


def test_a_folder_of_both_formats_is_open_clips(folder: Path, tmp_path: Path) -> None:
    (folder / CONFIG_FILE).write_text("{}")
    with pytest.raises(InputError, match="could not be loaded"):
        load(folder)


def test_a_command_takes_a_folder(kept: dict[str, Path], tmp_path: Path) -> None:
    assert trained_run(kept["hf-clip"]) is None
    arguments = ["--encoder", str(kept["hf-clip"]), "--dataset", "emoji", "--limit", "8", "--device", "cpu"]
    assert run_command(encode.main, [*arguments, "--out", str(tmp_path / "out")]) == 0
    written = load_file(next((tmp_path / "out").rglob("*.safetensors")))
    assert any(tensor.shape[-1] == 16 for tensor in written.values())


def test_training_does_not_start_from_one(kept: dict[str, Path]) -> None:
    for name in (str(kept["hf-clip"]), f"local-dir:{kept['hf-clip']}", "hf:openai/clip-vit-base-patch32"):
        with pytest.raises(InputError, match="format of transformers, which training does not write"):
            start_model(replace(FINE_TUNING["fine-tune-04"](), encoder=name))
