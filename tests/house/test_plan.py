"""The arithmetic of benchmarks.plan against hand numbers, a simulation, counted operations and the page."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import plan
from benchmarks.inversion import count_flops
from benchmarks.plan import (
    PARTS,
    PlannedJob,
    device_bytes,
    disk_bytes,
    limit,
    pipelined,
    process_bytes,
    renewed,
    seconds_of,
    spoken,
    total,
)
from benchmarks.rates import MACHINES, MODELS, Tower
from benchmarks.towers import runner
from crossgap import compute
from crossgap.command import run_command
from crossgap.embeddings import Embeddings
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig, Target
from tests.conftest import tiny_encoder
from tests.reference_pipeline import plain_pipeline

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "scale.md"


def job(**changes: Any) -> PlannedJob:
    given: dict[str, Any] = {
        "images": 10_240,
        "queries": 1_280,
        "devices": 1,
        "workers": 4,
        "into": "text",
        "steps": 100,
        "rankings": 2,
        "file_kib": 100.0,
        "machine": MACHINES["gpu"],
        "model": MODELS["ViT-B-32"],
    }
    rates = changes.pop("rates", {})
    made = PlannedJob(**(given | changes))
    return replace(made, machine=made.machine.given(rates))


ROUND = {
    "decode": 256.0, "encode": 1024.0, "invert": 12_800.0, "score": 1.0, "digest": 10.0, "read": 1e9,
    "write": 1.0,
}  # fmt: skip


def test_seconds_are_those_of_a_calculation_by_hand() -> None:
    parts = seconds_of(job(rates=ROUND))
    assert parts["digest"] == 25  # 10,240 files of 100 KiB, 4 x 10 MiB a second
    assert parts["decode"] == parts["encode"] == 10  # 10 batches of 1,024: 4 x 256 and 1,024 images a second
    assert parts["invert"] == 10  # 10 batches of 128, 100 steps of 128 / 12,800 s
    assert parts["score"] == pytest.approx(2 * 1_280 * 10_240 / 1e6)
    inverted = 1_280 * (4 * (512 + 512 + 101) + 8)
    assert parts["write"] == pytest.approx(2 * (10_240 * 512 * 4 + inverted) / 2**20)
    assert total(job(rates=ROUND)) == pytest.approx(  # 10 of 11 seconds of decoding and encoding overlap
        sum(parts.values()) - 10 + 1
    )


def test_disk_and_memory_are_those_of_a_calculation_by_hand() -> None:
    small = job(images=1_000, queries=1_000)
    assert disk_bytes(small)["features"] == 1_000 * 512 * 4 == 2_048_000
    assert disk_bytes(small)["inverted"] == 1_000 * (2_048 + 2_048 + 404 + 8)
    assert disk_bytes(small)["most"] == 2_048_000 + 2 * 4_508_000  # the chunks lie beside the files
    assert disk_bytes(job(images=1_000, queries=1))["most"] == 2 * 2_048_000
    weights = 151_277_313 * 4
    held = device_bytes(small)
    assert held["score"] == weights + 2 * 2_048_000 + 48 * 1_000_000
    assert held["encode"] == weights + 1_000 * (3 * 224 * 224 * 5 + 10 * 50 * 768 * 4)
    large = device_bytes(job(images=10_000_000, queries=10_000_000))
    assert large["score"] == weights + 2 * 10_000_000 * 2_048 + (4 << 30)
    assert process_bytes(small)["first"] == 1_000 * 1_024 + 3 * 1_000 * 3 * 224 * 224 + 3 * 2_048_000


def test_files_are_as_large_as_the_plan_says(tmp_path: Path) -> None:
    ids = tuple(f"{number:06d}" for number in range(5_000))
    values_ND = torch.zeros(len(ids), 512)
    made = Embeddings(ids=ids, values=values_ND, labels=ids, modality="image", encoder="", source="")
    made.save(tmp_path / "image.safetensors")
    names = 2 * len(ids) * 11  # of ids and labels as JSON, which the plan leaves out
    assert (tmp_path / "image.safetensors").stat().st_size == pytest.approx(
        disk_bytes(job(images=5_000))["features"] + names, rel=0.01
    )


@pytest.mark.parametrize("part", [part for part in PARTS if part != "start"])
def test_a_slow_part_is_the_limit_and_the_time(part: str) -> None:
    others = {name: 1e15 for name in ROUND if name != part}
    slow = job(rates={**others, part: 1e-3}, machine=replace(MACHINES["gpu"], least_step=_no_time()))
    assert limit(slow) == part
    assert total(slow) == pytest.approx(seconds_of(slow)[part], rel=0.01)  # type: ignore[index]


def test_parts_that_take_no_time_leave_the_start() -> None:
    fast = job(rates=dict.fromkeys(ROUND, 1e15), machine=replace(MACHINES["gpu"], least_step=_no_time()))
    assert limit(fast) == "start"
    assert total(fast) == pytest.approx(MACHINES["gpu"].start.value)


def test_time_falls_with_devices_until_what_they_do_not_share_is_the_limit() -> None:
    rates = {**ROUND, "digest": 1000.0, "write": 1000.0, "score": 1000.0}
    jobs = [job(images=1_000_000, devices=2**power, rates=rates) for power in range(12)]
    times = [total(each) for each in jobs]
    assert all(later <= earlier for earlier, later in pairwise(times))
    assert times[3] < times[0] / 1.5
    assert limit(jobs[-1]) == "start"
    fixed = ("start", "write")
    assert times[-1] > sum(seconds_of(jobs[0])[name] for name in fixed)  # type: ignore[index]
    # where workers are too few, a faster device does not help
    starved = [job(workers=1, rates={**ROUND, "encode": rate}) for rate in (1e4, 1e6)]
    assert total(starved[1]) == pytest.approx(total(starved[0]), rel=0.01)


def test_files_beyond_the_digests_that_are_remembered_are_read_twice() -> None:
    within, beyond = (seconds_of(job(images=images))["digest"] / images for images in (2**21, 2**22))
    assert beyond == pytest.approx(1.5 * within)


def test_processes_share_the_digest_until_the_file_system_gives_no_more() -> None:
    rates = {**ROUND, "read": 100.0}  # 1,000 MiB of files, 4 x 10 MiB a second of one process's threads
    assert seconds_of(job(rates=rates))["digest"] == 25
    assert seconds_of(job(rates=rates, devices=2))["digest"] == 12.5
    assert seconds_of(job(rates=rates, devices=8))["digest"] == 10
    assert seconds_of(job(rates=rates, devices=8))["decode"] == 10


def test_what_the_page_says_of_limits() -> None:
    def limits(images: int, queries: int) -> list[str]:
        return [
            limit(job(images=images, queries=queries, devices=devices, workers=15, steps=150, file_kib=110.0))
            for devices in (1, 8, 64)
        ]

    assert limits(1_000, 1_000) == ["start"] * 3
    assert limits(100_000, 100_000) == ["invert"] * 3
    assert limits(10_000_000, 10_000_000) == ["score"] * 3
    assert limits(10_000_000, 50_000) == ["decode", "decode", "digest"]
    whole = process_bytes(job(images=10_000_000, queries=10_000_000))
    assert (whole["first"] + 7 * whole["other"]) / 2**30 == pytest.approx(404, abs=0.5)
    small, large = MODELS["ViT-B-32"], MODELS["ViT-L-14"]
    assert large.encoded / small.encoded == pytest.approx(18.4, abs=0.05)
    assert large.text.step(large.embed) / small.text.step(small.embed) == pytest.approx(2.25, abs=0.05)


def test_whole_batches_are_shared_so_few_images_keep_few_devices_busy() -> None:
    few, many = (seconds_of(job(images=3_000, devices=devices)) for devices in (3, 64))
    assert (few["decode"], few["encode"]) == (many["decode"], many["encode"])
    assert job(images=3_000, devices=2).turns == 2


def test_on_a_processor_decoding_takes_its_time_from_encoding() -> None:
    shared = job(machine=MACHINES["cpu"], rates=ROUND)
    assert total(shared) == pytest.approx(sum(seconds_of(shared).values()))


@pytest.mark.parametrize("places", [1, 2, 5])
@pytest.mark.parametrize(
    ("batches", "stages"), [(1, (3, 2)), (7, (1, 4)), (7, (4, 1)), (9, (2, 5, 3)), (6, (3, 3, 3))]
)
def test_the_pipeline_is_that_of_a_simulation(batches: int, stages: tuple[int, ...], places: int) -> None:
    simulated = plain_pipeline(batches, [float(stage) for stage in stages], places=places, tick=1.0)
    assert pipelined(batches, *stages) == simulated


@pytest.mark.parametrize("into", ["text", "image"])
def test_operations_of_a_step_are_those_that_are_counted(into: Target) -> None:
    encoder = tiny_encoder()
    prompt = encoder.prompt("a photo of {}", 1)
    text = Tower(
        layers=2, width=24, positions=prompt.length, own=prompt.length - int(prompt.positions[0]), kept=0
    )
    image = Tower(layers=2, width=32, positions=17, own=17, kept=0)
    step = runner("ours", encoder, into, InversionConfig(), 1)
    counted = count_flops(lambda: step(1)) - count_flops(lambda: step(0))
    assert {"text": text, "image": image}[into].step(16) == pytest.approx(counted, rel=0.02)
    pixels_BCHW = torch.rand(1, 3, 32, 32, requires_grad=True)  # with a gradient torch takes no fused path
    forward = count_flops(lambda: encoder.model.encode_image(pixels_BCHW))
    assert image.forward(3 * 8**2, 16) == pytest.approx(forward, rel=0.02)


def test_operations_of_released_sizes() -> None:
    """As benchmarks.inversion counts them: docs/inversion.md, batch 64; ViT-L/14 counted once for this."""
    small, large = MODELS["ViT-B-32"], MODELS["ViT-L-14"]
    assert 64 * small.text.step(small.embed) == pytest.approx(18.8e9, rel=0.005)
    assert 64 * small.image.step(small.embed) == pytest.approx(1032e9, rel=0.005)
    assert large.text.step(large.embed) == pytest.approx(659_727_360, rel=0.005)
    assert large.image.step(large.embed) == pytest.approx(321_493_221_376, rel=0.005)
    assert large.encoded == pytest.approx(162e9, rel=0.005)


def test_side_by_side_is_what_commands_take_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=79 * 2**30)  # what is left of 80 on such a device
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: memory)
    for machine, device in (("gpu", torch.device("cuda")), ("cpu", torch.device("cpu"))):
        kind = MACHINES[machine]
        assert kind.encoded == compute.default_batch_size(device, compute.ENCODED)
        assert kind.inverted == compute.default_batch_size(device, compute.INVERTED)


def test_every_rate_says_where_it_is_from() -> None:
    for machine in MACHINES.values():
        for model in MODELS.values():
            for rate in machine.rates_of(model, "text").values():
                assert rate.source.startswith(("guess", "measured", "not needed")) or "FLOP" in rate.source


def test_the_command_takes_rates_and_refuses_what_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--images", "1000", "--devices", "1", "--format", "md"]
    assert run_command(plan.main, [*given, "--decode", "321", "--least-step", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "| decode | 321 | images/s a worker | given |" in said
    assert "| least step | 0.500 | s | given |" in said
    for wrong in (
        ["--decode", "0"],
        ["--machine", "tpu"],
        ["--model", "ViT"],
        ["--workers", "0"],
        ["--devices"],
    ):
        assert run_command(plan.main, [*given, *wrong]) == 2
    assert "ViT-B-32" in capsys.readouterr().err


def test_spans_are_said_in_their_unit() -> None:
    assert [spoken(seconds) for seconds in (3.21, 119.0, 600.0, 9000.0, 200_000.0)] == [
        "3.21 s", "119 s", "10 min", "2.5 h", "2.31 days",
    ]  # fmt: skip


def test_the_page_shows_what_the_command_prints() -> None:
    text = PAGE.read_text("utf-8")
    assert text.count("<!-- python -m benchmarks.plan") >= 2
    assert renewed(text) == text, "python -m benchmarks.plan --page docs/scale.md writes its tables anew"


def test_a_page_with_a_command_that_fails_is_refused() -> None:
    with pytest.raises(InputError, match="--images 0"):
        renewed("<!-- python -m benchmarks.plan --images 0 -->\n\n<!-- end -->\n")


def _no_time() -> Any:
    return MACHINES["gpu"].least_step._replace(value=0.0)
