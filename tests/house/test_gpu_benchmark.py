"""benchmarks.gpu in its smallest form on a CPU, what it says without CUDA, and how it keeps its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.budget import BudgetRow, MeasuredPart, Part, Step, table, within
from benchmarks.gpu.parts import QUICK, WHOLE, Bench, _agreement, _apart, _difference, parts_of
from benchmarks.towers import TOWERS
from crossgap.command import run_command
from crossgap.files import read_json
from crossgap.inversion.loop import Inversion


def test_the_smallest_form_walks_the_whole_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--out", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    assert run_command(gpu.main, ["--device", "cpu", "--quick", *files]) == 0
    written = read_json(tmp_path / "a.json")
    assert not written["left out"]
    assert not written["failed"]
    rows = written["table"]["rows"]
    bench = Bench(device=torch.device("cpu"), size=QUICK, scratch=tmp_path)
    assert {row["part"] for row in rows} == set(parts_of(bench)) - {"compiled"}
    for row in rows:
        assert row["a second"] > 0
        assert row["peak, MiB"] is None  # of a device
        # a CPU is compared with itself: float32 agrees to the bit, bfloat16 does not
        if "1 - cosine" in row["agrees with the CPU within"]:
            exact = row["agrees with the CPU within"].startswith("1 - cosine 0")
            assert exact == ("bf16" not in row["what"]), row
    (ahead,) = (row for row in rows if row["what"] == "1 worker ahead")
    assert ahead["agrees with the CPU within"] == "1 - cosine 0, the waiting loop's bits"
    page = (tmp_path / "a.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert "| part | what | agrees with the CPU within | s | a second | unit | x CPU | peak, MiB |" in page


def test_without_cuda_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_command(gpu.main, []) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert run_command(gpu.main, ["--device", "cpu"]) == 2
    assert "add --quick" in capsys.readouterr().err


def row(agrees: str = "") -> BudgetRow:
    return BudgetRow(agrees, seconds=2.0, amount=10.0, peak=None)


def part(clock: list[float], share: float, *steps: tuple[str, float, float]) -> Part:
    """Make a part of steps that are said to take some seconds and take others."""

    def measure(taken: float) -> BudgetRow:
        clock[0] += taken
        return row()

    def made() -> Iterator[Step]:
        for name, expected, taken in steps:
            yield Step(name, expected, lambda taken=taken: measure(taken))  # type: ignore[misc]

    return Part(share, "items", made)


def measured(clock: list[float], parts: dict[str, Part]) -> tuple[list[str], list[str], list[str]]:
    left_out: list[str] = []
    failed: list[str] = []
    found = within(100, parts, left_out=left_out, failed=failed, now=lambda: clock[0])
    return [f"{each.part}: {each.name}" for each in found], left_out, failed


def test_what_does_not_fit_is_named_and_time_left_falls_to_later_parts() -> None:
    clock = [0.0]
    parts = {
        "a": part(clock, 0.5, ("CPU", 10, 10), ("long", 60, 60), ("short", 5, 5)),
        "b": part(clock, 0.5, ("CPU", 10, 80), ("last", 10, 1)),
        "c": part(clock, 0.0, ("CPU", 60, 60)),
    }
    assert measured(clock, parts) == (["a: CPU", "a: short", "b: CPU"], ["a: long", "b: last", "c: CPU"], [])
    clock[0] = 0.0
    parts = {"a": part(clock, 0.5, ("CPU", 1, 60)), "b": part(clock, 0.0, ("CPU", 1, 1))}
    assert measured(clock, parts) == (["a: CPU"], ["b: all of it"], [])


def test_a_failure_is_named_and_the_rest_is_measured() -> None:
    def fails() -> BudgetRow:
        raise RuntimeError("out of memory")

    def broken() -> Iterator[Step]:
        yield Step("CPU", 1, row)
        raise OSError("no disk")

    made: dict[str, Callable[[], Iterator[Step]]] = {
        "a": lambda: iter([Step("CPU", 1, fails), Step("fp32", 1, row)]),
        "b": lambda: iter([Step("CPU", 1, row), Step("fp32", 1, fails), Step("bf16", 1, row)]),
        "c": broken,
        "d": lambda: iter([Step("compiled", 1, row, part="b"), Step("compiled", 1, row, part="a")]),
    }
    parts = {name: Part(0.25, "items", steps) for name, steps in made.items()}
    found, left_out, failed = measured([0.0], parts)
    assert found == ["b: CPU", "b: bf16", "c: CPU", "b: compiled"]
    assert left_out == ["a: fp32", "d: compiled"]  # there is nothing to compare them with
    assert failed == [
        "a: CPU (RuntimeError: out of memory)",
        "b: fp32 (RuntimeError: out of memory)",
        "c: what it needs (OSError: no disk)",
    ]


def test_the_table_has_ratios_of_rates_and_names_what_is_missing() -> None:
    parts = {"a": Part(1.0, "items", lambda: iter(()))}
    rows = [
        MeasuredPart("a", "CPU", row()),
        MeasuredPart("a", "fp32", BudgetRow("1e-7", seconds=1.0, amount=50.0, peak=12.0)),
        MeasuredPart("a", "larger", BudgetRow("", seconds=1.0, amount=1.0, peak=12.0, same_work=False)),
    ]
    made = table(rows, parts, ["a: bf16"], ["a: compiled (why)"], "here")
    assert [each["x CPU"] for each in made.rows] == [1, 10, None]
    assert made.note == "here Left out: a: bf16. Failed: a: compiled (why)."


def test_differences_are_those_of_a_calculation_by_hand() -> None:
    angle = torch.tensor(0.02, dtype=torch.float64)
    turned_ND = torch.stack([angle.cos(), angle.sin()])[None]
    straight_ND = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert float(_apart(turned_ND, straight_ND)) == pytest.approx(float(1 - angle.cos()), rel=0.2)
    nan = float("nan")
    assert _difference(torch.tensor([nan, 1.0]), torch.tensor([nan, 0.75])) == 0.25
    assert _difference(torch.tensor([nan]), torch.tensor([1.0])) == float("inf")

    def inversion(loss: float, features_ND: torch.Tensor) -> Inversion:
        losses = torch.tensor([[1.0, loss]])
        nothing = torch.zeros(1)
        return Inversion(features_ND, nothing, losses, {1: features_ND}, nothing, "lean")

    said = _agreement(inversion(0.25, turned_ND), inversion(0.5, straight_ND), [1])
    assert said == "1 - cosine 0.0002 and mean loss 0.2 at steps 1"


def test_its_parts_fill_the_time_and_its_models_are_known(tmp_path: Path) -> None:
    parts = parts_of(Bench(device=torch.device("cpu"), size=WHOLE, scratch=tmp_path))
    assert sum(each.share for each in parts.values()) == pytest.approx(1)
    assert {WHOLE.tower, QUICK.tower} <= set(TOWERS)
