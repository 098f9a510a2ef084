from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch

from crossgap.errors import InputError
from crossgap.files import read_json
from pretrain import checkpoint as checkpoints
from pretrain.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from pretrain.model import build_model
from pretrain.settings import ModelConfig
from pretrain.state import TABLE, TrainingState

CONFIG = ModelConfig(width=16, layers=1, heads=2, embed_dim=8, context_length=10)


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return build_model(CONFIG, seed=3, temperature=0.05).eval()


def checkpoint(model: open_clip.CLIP, step: int) -> Checkpoint:
    return Checkpoint(
        open_clip_config={"model_cfg": CONFIG.open_clip, "preprocess_cfg": CONFIG.preprocess},
        weights=dict(model.state_dict()),
        state={"logit_scale.step": torch.tensor(float(step))},
        progress={"step": step, "pairs_seen": 8 * step, "seconds": 1.5},
    )


def test_open_clip_reads_the_folder_and_encodes_the_same(model: open_clip.CLIP, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(model, 7))
    read = open_clip.create_model(f"local-dir:{path}").eval()
    assert isinstance(read, open_clip.CLIP)
    ids_BL = open_clip.get_tokenizer(f"local-dir:{path}")(["a photo of a cat", "x"])
    assert ids_BL.shape == (2, CONFIG.context_length)
    pixels = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(read.encode_image(pixels), model.encode_image(pixels))
        assert torch.equal(read.encode_text(ids_BL), model.encode_text(ids_BL))
    assert read.logit_scale.exp().item() == pytest.approx(20)
    for name in ("mean", "std", "interpolation", "resize_mode"):
        assert read.visual.preprocess_cfg[name] == CONFIG.preprocess[name]
    assert tuple(read.visual.preprocess_cfg["size"]) == (32, 32)


def test_what_was_saved_is_loaded(model: open_clip.CLIP, tmp_path: Path) -> None:
    saved = checkpoint(model, 7)
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
    assert loaded.open_clip_config == saved.open_clip_config
    assert loaded.progress == saved.progress
    assert loaded.weights.keys() == saved.weights.keys()
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)


def test_no_pickle(model: open_clip.CLIP, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(model, 7))
    assert {part.suffix for part in path.iterdir()} == {".json", ".safetensors"}


def test_the_newest_two_are_kept_in_order_of_steps(model: open_clip.CLIP, tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path, refuse) is None
    for step in (5, 999_999, 1_000_000):
        path = save_checkpoint(tmp_path, checkpoint(model, step))
        assert newest(tmp_path) == path
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-1000000", "step-999999"]


@pytest.mark.parametrize("killed_in", ["save_file", "_sync", "write_json"])
def test_a_process_killed_while_saving_leaves_the_earlier_checkpoint(
    model: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    earlier = save_checkpoint(tmp_path, checkpoint(model, 5))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, killed_in, die)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, checkpoint(model, 6))
    assert newest(tmp_path) == earlier
    assert load_checkpoint(earlier).progress["step"] == 5
    (tmp_path / ".latest.57qgev09").write_text("{")  # as one leaves that dies between writing and renaming
    remove_leftovers(tmp_path, 5)
    assert not list(tmp_path.glob(".*"))
    later = save_checkpoint(tmp_path, checkpoint(model, 6))
    assert newest(tmp_path) == later


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def change_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated": truncate,
    "emptied": lambda path: path.write_bytes(b""),
    "changed": change_a_bit,
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(
    "name", ["open_clip_model.safetensors", "state.safetensors", "open_clip_config.json", "state.json"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    model: open_clip.CLIP, tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    if name == "state.json" and damage is change_a_bit:
        return  # it holds the digests of the others; what it says itself is checked against the config
    earlier, later = (save_checkpoint(tmp_path, checkpoint(model, step)) for step in (5, 6))
    damage(later / name)
    said: list[str] = []
    found = find_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found[0] == earlier
    assert found[1].progress == {"step": 5, "pairs_seen": 40, "seconds": 1.5}
    (warning,) = said
    assert str(later) in warning
    assert name in warning
    assert warning.endswith("going on from step-000005")
    assert newest(tmp_path, said.append) == earlier
    again = save_checkpoint(tmp_path, checkpoint(model, 6))
    assert newest(tmp_path) == again == later


def test_a_checkpoint_that_is_gone_is_named(model: open_clip.CLIP, tmp_path: Path) -> None:
    earlier, later = (save_checkpoint(tmp_path, checkpoint(model, step)) for step in (5, 6))
    later.rename(tmp_path / "elsewhere")
    said: list[str] = []
    assert newest(tmp_path, said.append) == earlier
    assert "step-000006 is damaged: state.json is missing; going on from step-000005" in said[0]


def test_nothing_but_damaged_checkpoints_are_refused(model: open_clip.CLIP, tmp_path: Path) -> None:
    for step in (5, 6):
        truncate(save_checkpoint(tmp_path, checkpoint(model, step)) / "state.safetensors")
    with pytest.raises(
        InputError, match=r"no checkpoint is whole: .*step-000006.*step-000005.*to start over"
    ):
        find_checkpoint(tmp_path, refuse)


def test_damage_shows_without_digests_too(model: open_clip.CLIP, tmp_path: Path) -> None:
    earlier, later = (save_checkpoint(tmp_path, checkpoint(model, step)) for step in (5, 6))
    for path in (earlier, later):
        about = read_json(path / "state.json")
        del about["sha256"]
        (path / "state.json").write_text(json.dumps(about))
    truncate(later / "state.safetensors")
    assert newest(tmp_path, lambda _: None) == earlier


def refuse(damage: str) -> None:
    raise AssertionError(damage)


def newest(folder: Path, warn: Callable[[str], None] = refuse) -> Path:
    found = find_checkpoint(folder, warn)
    assert found is not None
    return found[0]


def train_on_tokens(vocabulary_V: torch.Tensor, steps: int = 3) -> TrainingState:
    """Pull the embeddings of tokens 2, 5 and 9 towards 1, with decay and without clipping."""
    model = build_model(CONFIG, seed=0, temperature=0.05)
    state = TrainingState(model, vocabulary_V, weight_decay=0.3, betas=(0.9, 0.98))
    used = torch.searchsorted(vocabulary_V, torch.tensor([2, 5, 9]))
    for step in range(steps):
        state.optimizer.zero_grad(set_to_none=True)
        loss = (torch.nn.functional.embedding(used, state.table_VW) - 1).square().sum()
        loss = loss + model.text_projection.square().sum() + model.visual.proj.sum()
        loss.backward()
        state.clip_gradients(None)
        state.update(0.01 * (step + 1))
    return state


def test_training_the_tokens_that_occur_is_training_the_whole_table() -> None:
    some = train_on_tokens(torch.tensor([2, 5, 9, 49407])).weights()
    whole = train_on_tokens(torch.arange(49408)).weights()
    assert some.keys() == whole.keys()
    for name in some:
        assert torch.equal(some[name], whole[name]), name
    start = build_model(CONFIG, seed=0, temperature=0.05).state_dict()[TABLE]
    moved = (some[TABLE] != start).any(1).nonzero().flatten()
    assert moved.tolist() == [2, 5, 9]


def test_restored_state_goes_on_as_before() -> None:
    vocabulary_V = torch.tensor([2, 5, 9])
    longer = train_on_tokens(vocabulary_V, steps=3)
    shorter = train_on_tokens(vocabulary_V, steps=2)
    model = build_model(CONFIG, seed=1, temperature=0.9)
    resumed = TrainingState(model, vocabulary_V, weight_decay=0.3, betas=(0.9, 0.98))
    resumed.restore(shorter.weights(), shorter.moments())
    loss = (resumed.table_VW - 1).square().sum()
    (loss + model.text_projection.square().sum() + model.visual.proj.sum()).backward()
    resumed.update(0.03)
    for name, expected in longer.weights().items():
        assert torch.equal(resumed.weights()[name], expected), name


def test_weight_decay_spares_vectors_and_embeddings() -> None:
    state = TrainingState(
        build_model(CONFIG, seed=0, temperature=0.05), torch.arange(4), weight_decay=0.3, betas=(0.9, 0.98)
    )
    names = {id(parameter): name for name, parameter in state._named()}
    decayed = {
        names[id(p)]
        for group in state.optimizer.param_groups
        if group["weight_decay"]
        for p in group["params"]
    }
    assert {"visual.conv1.weight", "visual.proj", "text_projection"} <= decayed
    assert not any("embedding" in name or "bias" in name or "ln_" in name for name in decayed)
    assert "logit_scale" not in decayed
    assert len(names) == sum(len(group["params"]) for group in state.optimizer.param_groups)
