"""The examples run, and say what the evaluation says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from crossgap.command import run_command
from crossgap.datasets.load import load_dataset
from crossgap.encoders.loading import load_encoder
from crossgap.evaluate import main as evaluate_command
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.run import evaluate
from crossgap.inversion.config import InversionConfig
from crossgap.provenance import Provenance
from crossgap.records import read_rows
from pretrain.config import smoke
from pretrain.recipes import RECIPES
from pretrain.run import train
from pretrain.terms import TERMS

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def rows_of(folder: Path) -> dict[tuple[str, str], float]:
    """Return mAP by task and route, as an evaluation wrote it."""
    rows = read_rows([folder / "rows.jsonl"])
    reported = rows[(rows["metric"] == "mAP") & (rows["selection"] != "curve")]
    return {(row.task, row.route): row.value for row in reported.itertuples()}


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    names = [path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")]
    assert len(names) >= 4
    assert [name for name in names if f"({name})" not in listed] == []


@pytest.mark.slow
def test_a_model_of_ones_own_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("own_model").main(tmp_path, limit=16, steps=3)
    written = rows_of(tmp_path)
    shown = capsys.readouterr().out
    for task, route in (("image-subgroup", "oti"), ("text-subgroup", "ovi")):
        gain = 100 * (written[task, route] - written[task, "native"])
        assert f"{task}: {route} changes mAP by {gain:+.2f} [" in shown
    page = tmp_path / "report" / "report.html"
    assert shown.splitlines()[-1].endswith(str(page))
    assert "two-towers" in page.read_text()


def test_a_folder_of_transformers_is_measured_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.split() for line in (EXAMPLES.parent / "README.md").read_text().splitlines()]
    (written,) = (line for line in lines if line[:2] == ["python", "examples/hugging_face.py"])
    (measured,) = (
        line for line in lines if line[:3] == ["python", "-m", "crossgap.evaluate"] and "tiny-clip" in line
    )
    monkeypatch.chdir(tmp_path)
    assert run_command(load("hugging_face").show, written[2:]) == 0
    fingerprint = load_encoder("tiny-clip", device="cpu").fingerprint
    assert f"tiny-clip: 16 dimensions, 16 patches, text width 24, fingerprint {fingerprint}" in (
        capsys.readouterr().out
    )
    assert run_command(evaluate_command, measured[3:]) == 0
    rows = rows_of(tmp_path / measured[-1])
    assert {route for _, route in rows} >= {"native", "oti"}
    assert all(0 <= value <= 1 for value in rows.values())


def test_the_encoder_of_ones_own_takes_its_own_embeddings_back() -> None:
    example = load("own_model")
    encoder = example.OwnEncoder(example.TwoTowers(), "two-towers")
    prompt = encoder.prompt("a photo of {} outside", 2)
    tokens_BL = encoder.tokenize(["a photo of red cats outside", "a photo of two dogs outside"])
    own_BKW = encoder.model.words(tokens_BL)[:, prompt.positions]
    torch.testing.assert_close(encoder.encode_text_with(prompt, own_BKW), encoder.encode_text(tokens_BL))
    pixels_BCHW = torch.rand(2, 3, 32, 32)
    patches_BNW = encoder.model.patches(pixels_BCHW).flatten(2).mT
    assert patches_BNW.shape == (2, encoder.num_patches, encoder.image_width)
    torch.testing.assert_close(encoder.encode_image_with(patches_BNW), encoder.encode_image(pixels_BCHW))


def test_data_of_ones_own_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = load("own_data")
    tables = example.main(out=tmp_path, classes=3, limit=12, train_steps=2, steps=2)
    pictures = list((tmp_path / "data").rglob("*.png"))
    captions = pd.read_csv(tmp_path / "data" / "captions.csv")
    assert len(captions) == len(pictures)
    assert set(captions["label"]) == {path.parent.name for path in pictures}
    shown = capsys.readouterr().out
    for (name, table), folder in zip(tables.items(), ("data", "captions.csv"), strict=True):
        assert name in shown
        written = rows_of(tmp_path / "measured" / folder)
        for row in table.itertuples():
            native = written[row.task, "native"]
            assert row.value == pytest.approx(written[row.task, row.route])
            assert row.value_gain == pytest.approx(row.value - native, abs=1e-12)
            assert row.low <= row.value <= row.high
    assert {"image-class/oti", "image-class/centred", "image-class/class_pca", "text-image/centred"} <= {
        f"{row.task}/{row.route}" for row in tables[str(tmp_path / "data" / "captions.csv")].itertuples()
    }


def test_a_term_of_ones_own_is_trained_with(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(TERMS)
    try:
        arms = load("own_term").main(steps=20, pairs=64, inversion_steps=2)
    finally:
        TERMS.clear()
        TERMS.update(before)
    without, with_term = arms["almost without"], arms["with"]
    assert with_term.values[0] == pytest.approx(without.values[0], rel=0.2)
    assert with_term.values[-1] < 0.8 * without.values[-1]
    shown = capsys.readouterr().out.splitlines()
    for line, arm in zip(shown, (without, with_term), strict=False):
        (gap,) = (row.value for row in arm.found.rows if row.metric == "centroid_distance")
        assert f"-> {arm.values[-1]:.3f}, gap {gap:.3f} [" in line
        value = {
            row.route: row.value
            for row in arm.found.rows
            if (row.task, row.metric) == ("image-subgroup", "mAP")
        }
        assert f"by {100 * (value['oti'] - value['native']):+.2f} [" in line


def test_contributing_shows_the_same_term() -> None:
    source = (EXAMPLES / "own_term.py").read_text()
    shown = (EXAMPLES.parent / "CONTRIBUTING.md").read_text().split("```python\n")[1:]
    function, line = (block.split("```")[0].strip() for block in shown[:2])
    assert function in source
    name, term = line.removesuffix(",").split(": ", 1)
    assert f"TERMS[{name}] = {term}" in source


def test_the_inversion_curve_equals_the_evaluation(tmp_path: Path) -> None:
    train(smoke(RECIPES["baseline"]()), tmp_path / "run", progress=False)
    shown = load("inversion_curve").main(str(tmp_path / "run"))
    plan = InversionPlan(config=InversionConfig(steps=50), token_counts=(1,), snapshots=(0, 5, 17, 50))
    result = evaluate(
        load_encoder(str(tmp_path / "run")),
        load_dataset("emoji", split="val", limit=100),
        None,
        config=EvaluationConfig(routes=("oti", "untrained_tokens"), plans={"text": plan}),
        provenance=Provenance(study="example", arm="smoke", config_hash="0"),
    )
    rows = [row for row in result.rows if (row.task, row.metric) == ("image-subgroup", "mAP")]
    measured = {row.steps: row.value for row in rows if row.selection == "curve"}
    (native,) = (row.value for row in rows if row.route == "native")
    assert shown.pop("native") == pytest.approx(native)
    assert list(shown.values()) == pytest.approx(list(measured.values()), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"), [("inversion_curve", ["/nowhere"]), ("own_data", ["--data", "/nowhere", "--out"])]
)
def test_a_mistake_ends_an_example_with_code_2(
    name: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load(name)
    command = example.show if name == "inversion_curve" else example.main
    given = [*arguments, *[str(tmp_path), "--train-steps", "2"] * (name == "own_data")]
    assert run_command(command, given) == 2
    assert "error: " in capsys.readouterr().err
