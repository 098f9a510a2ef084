"""Weights as people have them: any name, wrappers' prefixes, numpy's numbers; the rest is refused by kind."""

from __future__ import annotations

import collections
import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from crossgap.encoders import weights
from crossgap.encoders.loading import load_encoder
from crossgap.encoders.weight_files import as_open_clip_reads, read_torch
from crossgap.errors import InputError
from pretrain.model import build_model
from pretrain.settings import ModelConfig

NAME = "crossgap-tiny-weights"
SIZES = ModelConfig(width=16, layers=1, heads=2, embed_dim=8, context_length=10)
State = dict[str, Tensor]


@pytest.fixture(scope="module", autouse=True)
def _architecture(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("configs") / f"{NAME}.json"
    path.write_text(json.dumps(SIZES.open_clip))
    open_clip.add_model_config(path)


@pytest.fixture(scope="module")
def state() -> State:
    return dict(build_model(SIZES, seed=3, temperature=0.05).state_dict())


@pytest.fixture(scope="module")
def expected(state: State, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("plain") / "plain.pt"
    torch.save(state, path)
    return load_encoder(NAME, str(path), device="cpu").fingerprint


def wrapped(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def optimizer(rate: object) -> dict[str, Any]:
    return {"state": {}, "param_groups": [{"lr": rate, "params": [0]}]}


def saved(held: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(held, path)


READ: dict[str, Callable[[State, Path], None]] = {
    "m.ckpt": lambda state, path: torch.save(state, path),
    "M.PT": lambda state, path: torch.save(state, path),
    "weights": lambda state, path: torch.save(state, path),
    "really-torch.safetensors": lambda state, path: torch.save(state, path),
    "really-torch.npz": lambda state, path: torch.save(state, path),
    "m.safetensors": lambda state, path: save_file(state, path),
    "M.SAFETENSORS": lambda state, path: save_file(state, path),
    "really-safetensors.pt": lambda state, path: save_file(state, path),
    "old-layout.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "distributed.pt": lambda state, path: torch.save(
        {"epoch": 3, "state_dict": wrapped(state, "module."), "optimizer": optimizer(1e-3)}, path
    ),
    "compiled.pt": lambda state, path: torch.save({"state_dict": wrapped(state, "_orig_mod.")}, path),
    "both.pt": lambda state, path: torch.save(wrapped(state, "_orig_mod.module."), path),
    "compiled.safetensors": lambda state, path: save_file(wrapped(state, "module._orig_mod."), path),
    "model-key.pt": lambda state, path: torch.save({"model": state, "step": 7}, path),
    "cosine.pt": lambda state, path: torch.save(
        # open_clip_train/scheduler.py before 2.30: np.cos
        {"state_dict": state, "optimizer": optimizer(0.5 * (1 + np.cos(np.pi * 0.3)) * 1e-3)}, path
    ),
    "numbers.pt": lambda state, path: torch.save(
        {"state_dict": state, "step": np.int64(3), "scale": np.float32(65536), "best": np.bool_(True)}, path
    ),
    "before-numpy-2.pt": lambda state, path: _old_numpy(state, path),
}  # fmt: skip


def _old_numpy(state: State, path: Path) -> None:
    """Write the name of the function that makes a number as numpy 1 did."""
    held = {"state_dict": state, "rate": np.float64(1e-3)}
    torch.save(held, path, _use_new_zipfile_serialization=False)
    new, old = b"cnumpy._core.multiarray\nscalar\n", b"cnumpy.core.multiarray\nscalar\n"
    data = path.read_bytes()
    assert data.count(new) == 1
    path.write_bytes(data.replace(new, old))


@pytest.mark.parametrize("name", READ)
def test_weights_are_read_whatever_they_are_called_and_wrapped_in(
    name: str, state: State, expected: str, tmp_path: Path
) -> None:
    READ[name](state, tmp_path / name)
    encoder = load_encoder(NAME, str(tmp_path / name), device="cpu")
    assert encoder.fingerprint == expected
    assert encoder.name == f"{NAME}/{name}"


def _pickled_array(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "order": np.arange(3)}, path)


def _torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch makes no new ones; people have them
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def _cut(path: Path) -> None:
    torch.save({"a": torch.ones(4000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def _cut_safetensors(path: Path) -> None:
    save_file({"a": torch.ones(4000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "whole model": (saved(torch.nn.Linear(2, 2)), r"pickled objects \(torch.*Linear.*state_dict"),
    "array": (_pickled_array, r"pickled objects \(numpy\.\S*_reconstruct.*not read"),
    "class": (saved({"a": collections.UserDict(a=1)}), r"pickled objects \(collections\.UserDict\)"),
    "plain pickle": (
        lambda path: path.write_bytes(pickle.dumps(Path("x"), protocol=2)),
        r"pickled objects \(pathlib",
    ),
    "torchscript": (_torchscript, "a TorchScript archive"),
    "cut": (_cut, "damaged or not a file of torch.save"),
    "cut safetensors": (_cut_safetensors, r"damaged or cut off .*9000 bytes"),
    "lfs": (text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 605\n"), "git lfs pull"),
    "page": (text("<!DOCTYPE html><html>"), "a web page"),
    "empty": (text(""), "an empty file"),
    "words": (text("hello"), "neither safetensors nor a file of torch.save"),
    "list": (saved([torch.ones(1)]), "holds a list, expected tensors by name"),
    "nothing": (saved({}), "holds an empty dict"),
    "numbers": (saved({"state_dict": {"a": torch.ones(1), "b": 3}}), "'b' is a int, expected a tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_of_weights_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    write, says = REFUSED[name]
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(InputError, match=says) as error, as_open_clip_reads(path):
        pass
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value)  # torch's advice to switch its safety off


def test_numbers_of_numpy_are_admitted_while_a_file_is_read_and_no_longer(tmp_path: Path) -> None:
    torch.save({"rate": np.float64(0.5)}, tmp_path / "rate.pt")
    before = set(torch.serialization.get_safe_globals())
    assert read_torch(tmp_path / "rate.pt") == {"rate": 0.5}
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError, match="scalar was not an allowed global"):
        torch.load(tmp_path / "rate.pt", weights_only=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_file_and_tensor(state: State, value: float, tmp_path: Path) -> None:
    broken = {name: tensor.clone() for name, tensor in state.items()}
    broken["visual.conv1.weight"][0, 0, 0, 0] = value
    broken["visual.ln_post.weight"][0] = value
    torch.save(broken, tmp_path / "nan.pt")
    with pytest.raises(
        InputError, match=r"nan\.pt: tensor 'visual\.\S+' has 1 of \d+ values that are NaN or"
    ):
        load_encoder(NAME, str(tmp_path / "nan.pt"), device="cpu")


def test_weights_of_another_architecture_are_told_in_few_words(state: State, tmp_path: Path) -> None:
    fewer = {name: tensor for name, tensor in state.items() if name != "text_projection"}
    torch.save(fewer, tmp_path / "fewer.pt")
    with pytest.raises(InputError, match=r"fewer\.pt\).*do not fit .*text_projection") as error:
        load_encoder(NAME, str(tmp_path / "fewer.pt"), device="cpu")
    assert len(str(error.value)) < 1000
    with pytest.raises(InputError, match=r"width changed.*are they of this architecture\?"):
        load_encoder("ViT-S-32-alt", str(tmp_path / "fewer.pt"), device="cpu")
    other = {name: tensor for name, tensor in state.items() if "positional" not in name}
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"do not fit this architecture.*more such lines") as error:
        load_encoder("ViT-S-32-alt", str(tmp_path / "other.pt"), device="cpu")
    assert len(str(error.value)) < 1000


@pytest.fixture
def folder(state: State, tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    about = {"model_cfg": SIZES.open_clip, "preprocess_cfg": SIZES.preprocess}
    (made / "open_clip_config.json").write_text(json.dumps(about))
    save_file(state, made / "open_clip_model.safetensors")
    return made


def test_a_folder_may_have_open_clips_prefix(folder: Path) -> None:
    plain, prefixed = load_encoder(str(folder)), load_encoder(f"local-dir:{folder}")
    assert plain.fingerprint == prefixed.fingerprint
    with pytest.raises(InputError, match="'local-dir:nowhere': no such folder"):
        load_encoder("local-dir:nowhere")
    with pytest.raises(InputError, match="brings its own weights; leave it out"):
        load_encoder(f"local-dir:{folder}", "openai")


def test_a_repository_of_the_hub_is_read_from_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "hub" / "models--someone--tiny-clip"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, kept / "snapshots" / ("0" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights, "answers", lambda _address: False)
    encoder = load_encoder("hf-hub:someone/tiny-clip")
    assert encoder.fingerprint == load_encoder(str(folder)).fingerprint
    assert encoder.name == "hf-hub:someone/tiny-clip"
    with pytest.raises(InputError, match=r"'hf-hub:someone/other' is not on this machine.*does not answer"):
        load_encoder("hf-hub:someone/other")
    with pytest.raises(InputError, match="expected hf-hub:OWNER/NAME"):
        load_encoder("hf-hub:tiny")


def test_names_may_be_written_as_their_makers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_encoder("RN50", "Random").fingerprint
    monkeypatch.setattr(weights, "answers", lambda _address: False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    for name, tag in (("ViT-B/32", "openai"), ("ViT-B-32", "OpenAI"), ("ViT-B-32", "LAION2B-S34B-B79K")):
        with pytest.raises(
            InputError, match=f"weights '{tag.lower().replace('-', '_')}' of 'ViT-B-32' are not on"
        ):
            load_encoder(name, tag)


def test_what_is_neither_tag_nor_file_is_named(tmp_path: Path) -> None:
    for given in ("missing.ckpt", str(tmp_path / "missing")):
        with pytest.raises(InputError, match="no such file, and no tag of ViT-B-32"):
            load_encoder("ViT-B-32", given)
    with pytest.raises(InputError, match=r"tag of ViT-B-32 \(and no such file\) 'opnai'.*'openai'"):
        load_encoder("ViT-B-32", "opnai")
    with pytest.raises(InputError, match="cannot be read"):
        load_encoder("ViT-B-32", str(tmp_path))
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"is a file: give the architecture.*--pretrained .*model\.ckpt"):
        load_encoder(str(tmp_path / "model.ckpt"))
