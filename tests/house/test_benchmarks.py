"""Every benchmark in its smallest form: it runs, and what it counts is right. No time is asserted."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ablations.study.smoke import smoke as smoke_study
from ablations.study.study import Study
from benchmarks import memory, run
from benchmarks.encoding import encoding, held_by
from benchmarks.fidelity import Scale, fidelity
from benchmarks.grid import grid
from benchmarks.inversion import count_flops, speed
from benchmarks.loading import cost, loading
from benchmarks.machine import Clock, Timing, interleave, multiply_rate
from benchmarks.products import products
from benchmarks.readers import _fresh, peaks, readers
from benchmarks.retrieval import pairs, retrieval, scale
from benchmarks.scenes import scenes
from benchmarks.schedules import schedules
from benchmarks.shared import retrieve, shared
from benchmarks.studies import parts_of_a_trial
from benchmarks.tables import BenchTable, shown
from benchmarks.terms import terms
from benchmarks.towers import runner
from benchmarks.training import training
from crossgap.datasets.load import load_dataset
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.files import read_json
from crossgap.inversion.config import InversionConfig
from crossgap.vocabulary import Precision
from pretrain.config import TrainConfig, smoke
from pretrain.data.views import Embedder
from pretrain.recipes import RECIPES
from tests.conftest import tiny_encoder

pytestmark = pytest.mark.slow


def encoder_in(precision: Precision) -> OpenClipEncoder:
    dtype = torch.float64 if precision == "fp64" else torch.float32
    plain = tiny_encoder(dtype=dtype)
    return OpenClipEncoder(plain.model, plain.tokenizer, precision=precision)


def silent(_what: str) -> None:
    return None


@pytest.mark.parametrize("tower", ["tiny", "tiny SigLIP"])
def test_speed_has_a_row_for_each_loop_and_precision(tower: str) -> None:
    tables = speed([tower], rounds=2, round_seconds=0.005, progress=silent)
    assert [table.title.split(",")[1] for table in tables] == [" into text", " into image"]
    for table in tables:
        pools_all_patches = tower == "tiny SigLIP" and "into image" in table.title
        assert [(row["loop"], row["precision"]) for row in table.rows] == [
            ("plain", "fp32"), ("plain", "bf16"), ("ours", "fp32"), ("ours", "bf16"),
        ]  # fmt: skip
        assert "Engine of ours: lean" in table.note
        assert table.rows[0]["x plain fp32"] == 1
        ours, plain = (float(str(table.rows[place]["GFLOP a step"])) for place in (2, 0))
        assert ours == plain if pools_all_patches else ours < plain


def test_schedules_are_compared_from_start_to_end_and_on_each_kind_of_towers() -> None:
    whole, by_kind = schedules(
        "small", batch_size=2, paper_steps={"text": 6, "image": 8}, kinds=("CLIP", "CoCa"), items=3,
        progress=silent,
    )  # fmt: skip
    plain, ours, reached, fast = whole.rows
    assert float(str(ours["loss"])) == pytest.approx(float(str(plain["loss"])), abs=1e-5)
    assert float(str(reached["loss"])) <= float(str(plain["loss"]))
    assert 0 < int(str(reached["steps"])) < int(str(fast["steps"])) == 20
    assert "did not reach" not in whole.note
    assert [(row["kind of towers"], row["into"], row["steps"], row["its steps"]) for row in by_kind.rows] == [
        (kind, into, steps, fewer)
        for kind in ("CLIP", "CoCa")
        for into, steps, fewer in (("text", 6, 20), ("image", 8, 60))
    ]
    for row in by_kind.rows:
        assert float(str(row["L-BFGS"])) < float(str(row["AdamW"])) < float(str(row["start"]))
        assert row["reached"] == 1
        assert row["behind"] == 0
    (further, _) = schedules("small", batch_size=2, paper_steps={"text": 300, "image": 8}, kinds=("CLIP",),
                             progress=silent)  # fmt: skip
    assert int(str(further.rows[2]["steps"])) > 20  # it looks further than the fast schedule goes
    assert float(str(further.rows[2]["loss"])) <= float(str(further.rows[0]["loss"]))


def test_readers_are_measured_at_every_size() -> None:
    def measure(path: str, data_root: Path | None) -> tuple[float, float]:
        in_its_own = (
            data_root is not None and data_root.name == "24"
        )  # one; the others have the same way there
        return (_fresh if in_its_own else peaks)(path, data_root)

    (table,) = readers((12, 24), measure=measure, progress=silent)
    assert [(row["reader"], row["images"]) for row in table.rows] == [
        (name, count) for count in (12, 24) for name in ("class folders", "CSV", "tar", "CoOp list")
    ]
    assert all(float(str(row["load + encode, MiB"])) >= float(str(row["load, MiB"])) for row in table.rows)


def test_encoding_is_measured_against_loops_that_give_the_same_features() -> None:
    speed_of, decoded, memory_of = encoding(
        {"small": 12}, held=(8, 12), rounds=1, workers=(1,), measure=held_by, progress=silent
    )
    assert [row["loop"] for row in speed_of.rows] == [
        "waits, one thread", "DataLoader, 1 workers", "ours, 1 workers",
    ]  # fmt: skip
    assert "equal to the bit" in speed_of.note
    assert [row["workers"] for row in decoded.rows] == [1]
    assert float(str(decoded.rows[0]["images/s"])) > 0
    assert [row["photos"] for row in memory_of.rows] == [8, 12]
    without_memory = encoding({"small": 8}, held=(), rounds=1, workers=(1,), progress=silent)
    assert [len(table.rows) for table in without_memory] == [3, 1]


def test_each_way_of_loading_is_measured_at_every_size_and_number_of_workers() -> None:
    (table,) = loading((24, 40), steps=2, small=True, measure=cost, progress=silent)
    ways = [("memory", 0), *(("indexed", k) for k in (1, 2)), *(("resampled", k) for k in (0, 1, 2))]
    assert [(row["pairs"], row["loading"], row["workers"]) for row in table.rows] == [
        (count, *way) for count in (24, 40) for way in ways
    ]
    sizes = [float(str(row["files, MiB"])) for row in table.rows]
    assert max(sizes[:6]) < min(sizes[6:])
    for row in table.rows:
        assert all(float(str(row[name])) > 0 for name in row if name.endswith(("pairs/s", ", s")))


def test_products_and_attention_are_counted_as_the_formula_says() -> None:
    rows_3W = torch.randn(3, 4, requires_grad=True)
    weight_W = torch.randn(4, 5)
    assert count_flops(lambda: rows_3W @ weight_W) == 2 * 3 * 4 * 5
    assert count_flops(lambda: (rows_3W @ weight_W).sum().backward()) == 2 * 2 * 3 * 4 * 5
    heads = torch.randn(2, 3, 7, 8, requires_grad=True)

    def attend() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)

    assert count_flops(attend) == 4 * 2 * 3 * 7 * 7 * 8
    assert count_flops(lambda: attend().sum().backward()) == (4 + 10) * 2 * 3 * 7 * 7 * 8


def test_the_lean_text_pass_does_what_its_positions_cost() -> None:
    """Layers but the last: 12 W^2 weights a position; the last: keys and values, then one query."""
    encoder = tiny_encoder()
    config = InversionConfig()
    prompt = encoder.prompt(config.template, 1)
    once, first = prompt.length, int(prompt.positions[0])
    own, width, layers, embed = once - first, encoder.text_width, 2, encoder.embed_dim
    products = (layers - 1) * own * 12 * width**2 + own * 2 * width**2 + 10 * width**2 + width * embed
    attention = ((layers - 1) * own + 1) * once * width
    step = runner("ours", encoder, "text", config, 1)
    counted = count_flops(lambda: step(1)) - count_flops(lambda: step(0))
    # forward and backward; the prefix is not differentiated, but attention's kernel does not know that
    assert counted == pytest.approx(2 * 2 * products + 14 * attention, rel=0.02)


def test_memory_has_a_row_for_each_direction_and_batch() -> None:
    (table,) = memory.memory(["tiny"], batch_sizes=(1, 2), measure=memory.peaks, progress=silent)
    assert [(row["into"], row["batch"]) for row in table.rows] == [
        ("text", 1), ("text", 2), ("image", 1), ("image", 2),
    ]  # fmt: skip


def test_fidelity_compares_every_loop() -> None:
    val = load_dataset("emoji", split="val", limit=40)
    scale = Scale(steps={"text": 6, "image": 6}, exact_items=2, summed_items=4, repeats=1)
    tables = fidelity(encoder_in, val, scale, progress=silent)
    assert len(tables) == 10
    for reached, curve, quantiles, drift, summed in (tables[:5], tables[5:]):
        assert [str(row["loop"])[:9] for row in reached.rows] == [
            "plain fp3",
            "ours fp32",
            "ours bf16",
            "ours fp32",
        ]
        assert reached.rows[0]["difference"] == 0
        assert [row["step"] for row in curve.rows][-1] == 6
        assert curve.rows[0]["loss, plain"] == pytest.approx(curve.rows[0]["loss, ours"], abs=1e-5)
        assert [row["loop"] for row in quantiles.rows] == ["plain", "ours", "ours bf16", "lbfgs"]
        assert drift.rows[-1]["float64, largest difference"] == pytest.approx(0, abs=1e-8)
        assert [(row["tokens"], row["step"]) for row in summed.rows] == [(1, 6), (3, 6)]
        for row in summed.rows:
            assert 0 < float(str(row["1 - cosine, median"])) <= float(str(row["largest"])) < 1e-3
            assert row["mean loss, summed"] == pytest.approx(row["mean loss, averaged"], abs=1e-3)


def test_grid_compares_twelve_settings() -> None:
    targets_ND = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    times, differences = grid(
        encoder_in,
        targets_ND,
        ["a", "b", "c"],
        into="text",
        base=InversionConfig(steps=6),
        batch_sizes=(3,),
        rounds=1,
        exact_items=2,
        progress=silent,
    )
    assert times.rows[0]["rows a step in the grid"] == 36
    assert float(str(times.rows[0]["its products alone / runs"])) > 0
    assert len(differences.rows) == 6
    assert all(float(str(row["float64, largest difference"])) < 1e-8 for row in differences.rows)


def test_retrieval_and_training_run() -> None:
    (metrics,) = retrieval(queries=4, gallery=60, looped=2, rounds=1)
    assert [row["queries"] for row in metrics.rows] == [2, 4]
    assert float(metrics.note.split()[-1].rstrip(".")) < 1e-5
    (grown,) = scale((50, 100), queries=3, measure=lambda _q, size: (1.0, size / 10), progress=print)
    assert [row["peak above them, MiB"] for row in grown.rows] == [5.0, 10.0]
    (timed,) = pairs(count=120, width=16)
    assert timed.rows[-1]["metric"] == "all of them"
    assert float(timed.rows[-1]["s"]) >= max(float(row["s"]) for row in timed.rows[:-1])
    assert metrics.rows[0]["x loop"] == 1


def test_shared_retrieval_is_measured_for_each_number_of_processes() -> None:
    (table,) = shared(
        4, 60, measure=lambda size, queries, gallery: retrieve(queries, gallery), progress=silent
    )
    assert [row["processes"] for row in table.rows] == [1, 2]
    assert table.rows[1]["mAP - first's"] == 0


def test_training_has_the_losses_of_a_plain_loop(tmp_path) -> None:
    smallest = smoke(RECIPES["baseline"]())
    speed, shares, floor = training(tmp_path, config=smallest, steps=2, rounds=2, profiled=2)
    assert [row["loop"] for row in speed.rows] == ["plain", "fp32", "bf16", "autocast"]
    assert speed.rows[0]["x plain"] == speed.rows[1]["x fp32"] == 1
    assert "losses of 6 steps" in speed.note
    off = [float(str(row["loss off"])) for row in speed.rows]
    assert off[0] == 0
    assert off[1] < 1e-5 < min(off[2:])
    assert max(off) < 0.05
    assert float(str(floor.rows[0]["ms of products alone"])) > 0
    assert sum(float(str(row["share"])) for row in shares.rows) == pytest.approx(1)
    assert all(float(str(row["share"])) > 0 for row in shares.rows)
    assert Embedder.__call__.__name__ == "__call__"


def test_products_are_counted_and_timed_in_their_shapes() -> None:
    x, weight = torch.randn(64, 32), torch.randn(16, 32, requires_grad=True)

    def step() -> None:
        for _ in range(3):
            (x @ weight.T).sum().backward()

    operations, alone = products(step, repeats=2)
    assert operations == 3 * 2 * (2 * 64 * 32 * 16)  # forward, and backward to the weight alone
    assert 0 < alone < 1


def test_a_trial_is_timed_by_its_parts() -> None:
    def smallest(study: Study) -> Study:
        return replace(smoke_study(study), evaluation=EvaluationConfig(routes=("native", "centred")))

    table = parts_of_a_trial(smallest, silent)
    seconds = {row["part"]: float(str(row["s"])) for row in table.rows}
    assert {"train, with reading the pairs", "encode", "fit maps", "the rest"} <= set(seconds)
    assert min(seconds.values()) >= 0
    assert sum(float(str(row["share"])) for row in table.rows) == pytest.approx(1)


def test_a_clock_takes_what_is_within_from_what_is_around() -> None:
    class Work:
        now = 0.0

        def outer(self) -> None:
            self.now += 3
            self.inner()
            list(self.drawn())

        def inner(self) -> None:
            self.now += 1

        def drawn(self) -> Iterator[int]:
            self.now += 5
            yield 1

    work = Work()
    clock = Clock(lambda: work.now)
    with clock.of(Work, "outer", "a"), clock.of(Work, "inner", "b"), clock.of(Work, "drawn", "c"):
        work.outer()
    work.outer()
    assert clock.spent == {"a": 3, "b": 1, "c": 5}


def test_terms_are_timed_against_the_baseline(tmp_path) -> None:
    (steps,) = terms(tmp_path, rounds=1, steps=1, shrink=smoke, progress=silent)
    assert [row["recipe"] for row in steps.rows] == list(RECIPES)
    assert steps.rows[0]["x baseline"] == 1
    assert all(float(str(row["s a step"])) > 0 for row in steps.rows)


def test_rounds_are_interleaved_and_ratios_taken_within_them() -> None:
    order: list[str] = []
    times = {"slow": iter((4.0, 9.0, 6.0)), "fast": iter((2.0, 3.0, 1.0))}
    found = interleave(
        {name: lambda values=values: next(values) for name, values in times.items()}, 3, progress=order.append
    )
    assert order == ["slow", "fast"] * 3
    assert found["slow"].over(found["fast"]) == 3  # of 2, 3 and 6
    assert Timing((3.0, 1.0, 2.0)).columns() == {"s": 2.0, "min": 1.0, "max": 3.0}
    assert multiply_rate(2, 4, torch.float32, least=0) > 0


def test_a_table_reads_alike_everywhere() -> None:
    table = BenchTable(
        title="t", rows=[{"what": "a", "s": 0.00012345, "n": 3}, {"what": "b", "s": None, "n": 4}], note="n"
    )
    assert table.markdown() == (
        "**t**\n\n| what | s | n |\n| --- | ---: | ---: |\n| a | 0.000123 | 3 |\n| b | – | 4 |\n\nn\n"
    )
    assert table.rich().row_count == 2
    assert [shown(value) for value in (12.345, 123.4, 1234.5, 1e-9, 0.0)] == [
        "12.3",
        "123",
        "1234",
        "1.00e-09",
        "0.00",
    ]


def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        run, "PARTS", {"retrieval": lambda _bench: retrieval(queries=2, gallery=20, looped=2, rounds=1)}
    )
    assert run.main(only=("retr",), out=tmp_path / "a.json", markdown=tmp_path / "a.md") == 0
    written = read_json(tmp_path / "a.json")
    title = written["parts"]["retrieval"]["tables"][0]["title"]
    assert title in capsys.readouterr().out
    assert title in (tmp_path / "a.md").read_text()
    assert {"processor", "cores", "versions", "commit"} <= written["machine"].keys()


def test_the_command_knows_its_parts() -> None:
    assert set(inspect.signature(run.main).parameters) == {
        "only",
        "quick",
        "model",
        "threads",
        "out",
        "markdown",
    }
    with pytest.raises(InputError, match=r"no benchmark begins with 'inverse'.*inversion-speed"):
        run.main(only=("inverse",))


def test_a_step_on_scenes_is_measured_against_one_painted_before(tmp_path: Path) -> None:
    config = smoke(TrainConfig(recipe="bench", data="scenes", threads=1))
    (table,) = scenes(tmp_path, config=config, steps=1, rounds=1, different=2)
    assert [row["scenes"] for row in table.rows] == ["painted as drawn", "painted before"]
    assert table.rows[1]["x painted before"] == 1
    assert not list(tmp_path.iterdir())
