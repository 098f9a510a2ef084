"""What a training that is over shows of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from analysis import report
from analysis.folder import read_run
from analysis.plots.training import training_info
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.files import read_json, read_lines
from pretrain import train
from pretrain.looking.curves import write_curves
from pretrain.looking.summary import summary
from tests.training_shards import write_shard

METRICS = [
    {"step": 1, "loss": 3.0, "temperature": 0.07, "raw/clip": 2.0, "raw/mmd": 1.0, "weighted/clip": 2.0},
    {"step": 2, "loss": 1.5, "temperature": 0.05, "raw/clip": 1.25, "raw/mmd": 0.25, "weighted/clip": 1.25},
]
VALIDATION = [
    {"step": 1, "gap/centroid_distance": 1.0, "image-text/hit@1": 0.5, "image-concept/mAP": 0.1},
    {"step": 2, "gap/centroid_distance": 0.5, "image-text/hit@1": 0.25, "image-concept/mAP": 0.2},
]


def test_a_summary_says_where_each_part_began_and_ended() -> None:
    rows = [line.split() for line in summary(METRICS, []).splitlines()]
    assert rows == [
        ["first", "last"], ["loss", "3", "1.5"], ["clip", "2", "1.25"], ["mmd", "1", "0.25"],
        ["temperature", "0.07", "0.05"],
    ]  # fmt: skip


def test_it_says_what_checkpoints_are_worth_and_which_is_the_best() -> None:
    lines = summary(METRICS, VALIDATION).splitlines()
    assert lines[-3].split()[-2:] == ["1", "0.5"]
    assert "gap" in lines[-3]
    assert lines[-1].strip() == "best checkpoint: step 1, image-text hit@1 0.5"


def test_curves_are_a_picture_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for validation in ([], VALIDATION):
        write_curves(tmp_path / "curves.png", "title", METRICS, validation)
        with Image.open(tmp_path / "curves.png") as image:
            assert image.format == "PNG"
            sizes.append(image.height)
    assert sizes[1] > sizes[0]  # two panels more
    before = (tmp_path / "curves.png").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="No space"):
        write_curves(tmp_path / "curves.png", "title", METRICS, [])
    assert (tmp_path / "curves.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_a_training_ends_with_both_and_its_report_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard, out = str(write_shard(tmp_path / "a.tar")), tmp_path / "run"
    given = ["--smoke", "--data", shard, "--device", "cpu", "--threads", "1", "--batch-size", "8"]
    assert run_command(train.main, [*given, "--validation", "emoji", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    lines = read_lines(out / "metrics.jsonl")
    assert f"{lines[-1]['loss']:.4g}" in said
    assert "gap, distance of the means" in said
    assert (out / "curves.png").exists()
    study = read_run(out)
    config = read_json(out / "config.json")
    assert (study.arms[0].label, study.seeds) == (config["label"], (0,))
    info = training_info(study.training, study.labels)
    assert info.losses["loss"].tolist() == [line["loss"] for line in lines]
    looked = read_lines(out / "validation.jsonl")
    gaps = info.validation[info.validation["metric"] == "gap/centroid_distance"]
    assert gaps["value"].tolist() == [line["gap/centroid_distance"] for line in looked]
    asked = [str(out), "--out", str(tmp_path / "report"), "--format", "html", "md"]
    assert run_command(report.main, asked) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "No model has been measured: the curves of training are all that there is to show." in page
    assert "1 trained and not measured" in page
    assert "unfinished" not in page
    assert f"{read_json(out / 'result.json')['pairs_seen']:,}" in page
    assert "differs from the baseline" not in page  # there is none
    for anchor in ("training", "provenance"):
        assert f'id="{anchor}"' in page
    for anchor in ("headline", "curves", "neighbours", "claims"):
        assert f'id="{anchor}"' not in page  # nothing was measured that they could show
    for name in ("training-loss", "training-temperature", "training-validation"):
        assert (tmp_path / "report" / "figures" / f"{name}.svg").exists()


def test_a_folder_that_is_no_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a study, not an evaluated run and not a training"):
        read_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    (tmp_path / "config.json").write_text("{}\n")
    with pytest.raises(InputError, match="is not the config of a training run"):
        read_run(tmp_path)
