"""encode, invert, evaluate and train as a user meets them: results, no-ops, folders of other things."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossgap import encode, evaluate, invert
from crossgap.embeddings import Embeddings
from crossgap.encoders import weights
from crossgap.encoders.loading import load_encoder
from crossgap.errors import InputError
from crossgap.files import write_json
from crossgap.records import read_rows
from pretrain import train as training
from tests.training_shards import write_shard

FAST = {"dataset": "emoji", "limit": 12}


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "run"
    training.main(smoke=True, out=out)
    return out


def test_encode_writes_features_of_both_modalities(run: Path, tmp_path: Path) -> None:
    assert encode.main(encoder=str(run), out=tmp_path / "a", **FAST) == 0
    images, texts = (Embeddings.load(tmp_path / "a" / f"{name}.safetensors") for name in ("image", "text"))
    assert images.modality == "image"
    assert images.values.shape[1] == texts.values.shape[1] == 32
    assert len(set(texts.ids)) == len(texts.ids) > 12
    before = stamps(tmp_path / "a")
    assert encode.main(encoder=str(run), out=tmp_path / "a", **FAST) == 0
    assert stamps(tmp_path / "a") == before
    with pytest.raises(InputError, match="encoder was"):
        encode.main(encoder=_another(run, tmp_path), out=tmp_path / "a", **FAST)


def test_invert_writes_once_and_refuses_other_settings(run: Path, tmp_path: Path) -> None:
    settings = {**FAST, "encoder": str(run), "into": "text", "steps": 3, "snapshots": (1,)}
    assert invert.main(**settings, out=tmp_path / "a") == 0
    found = Embeddings.load(tmp_path / "a" / "inverted.safetensors")
    assert (found.modality, len(found.ids)) == ("text", 12)
    assert (tmp_path / "a" / "inverted-step-1.safetensors").exists()
    before = stamps(tmp_path / "a")
    assert invert.main(**settings, out=tmp_path / "a") == 0
    assert stamps(tmp_path / "a") == before
    with pytest.raises(InputError, match=r"inversion.learning_rate was 0.02, now 0.1"):
        invert.main(**settings, learning_rate=0.1, out=tmp_path / "a")


def test_an_inversion_that_diverges_writes_nothing(run: Path, tmp_path: Path) -> None:
    settings = {**FAST, "encoder": str(run), "into": "text", "steps": 5}
    with pytest.raises(InputError, match=r"not finite at step .*lower the learning rate"):
        invert.main(**settings, learning_rate=1e30, out=tmp_path / "a")
    with pytest.raises(InputError, match="--steps must be at least 1"):
        invert.main(**{**settings, "steps": 0}, out=tmp_path / "a")
    with pytest.raises(InputError, match="--threads must be at least 1"):
        invert.main(**settings, threads=0, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_evaluate_keeps_to_its_own_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**FAST, "dataset": (FAST["dataset"],), "encoder": str(run), "steps": 2}
    assert evaluate.main(**settings, out=tmp_path / "a") == 0
    rows = read_rows([tmp_path / "a" / "rows.jsonl"])
    assert {"native", "oti", "ovi", "centred"} <= set(rows.route)
    assert "image-subgroup" in capsys.readouterr().out
    assert evaluate.main(**settings, out=tmp_path / "a") == 0  # the same again renews it
    with pytest.raises(InputError, match="seed was 0, now 1"):
        evaluate.main(**settings, seed=1, out=tmp_path / "a")
    before = stamps(run)
    with pytest.raises(InputError, match="holds other things than an evaluation"):
        evaluate.main(**settings, out=run)
    assert stamps(run) == before


def test_a_rejected_training_can_be_corrected_in_place(tmp_path: Path) -> None:
    write_shard(tmp_path / "few.tar", [[f"a thing {number}"] for number in range(8)])
    data, out = str(tmp_path / "few.tar"), tmp_path / "out"
    settings = {"smoke": True, "data": data, "out": out}
    with pytest.raises(InputError, match="batch_size=32"):
        training.main(**settings, batch_size=32)
    assert not out.exists()
    with pytest.raises(InputError, match="not finite"):
        training.main(**settings, batch_size=4, learning_rate=1e30)
    training.main(**settings, batch_size=4)
    assert (out / "result.json").exists()


def test_training_refuses_a_folder_whose_config_is_not_its_own(run: Path) -> None:
    recorded = (run / "config.json").read_text()
    write_json(run / "config.json", {"something": "else"})
    with pytest.raises(InputError, match="not the config of a training run"):
        training.main(smoke=True, out=run)
    (run / "config.json").write_text(recorded)
    training.main(smoke=True, out=run)


def test_weights_that_cannot_be_fetched_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "answers", lambda _address: False)
    with pytest.raises(InputError, match=r"open_clip_model.safetensors .*vit_base_patch32_clip_224.openai"):
        load_encoder("ViT-B-32", "openai")
    with pytest.raises(InputError, match=r"give its path as --backbone openclip-l14 --pretrained FILE"):
        load_encoder("ViT-L-14", "datacomp_xl_s13b_b90k")
    with pytest.raises(InputError, match=r"give its path as --pretrained FILE"):
        load_encoder("ViT-L-14", "laion2b_s32b_b82k")


def _another(run: Path, folder: Path) -> str:
    out = folder / "another"
    training.main(smoke=True, seed=5, out=out)
    return str(out)
