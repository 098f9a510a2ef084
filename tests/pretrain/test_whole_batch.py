"""The loss of a batch does not depend on how it is cut: into processes, or into parts one after another."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossgap.processes import joined
from pretrain.config import TrainConfig
from pretrain.data.pairs import load_pairs
from pretrain.loop import Run
from pretrain.processes import average, gather_views
from pretrain.settings import ObjectiveConfig, TemperatureConfig, views_of
from pretrain.terms import TERMS
from pretrain.terms.modifiers import MODIFIERS
from pretrain.terms.views import VIEWS
from tests.commands import run_processes
from tests.pretrain.test_train import config
from tests.training_shards import write_shard

pytestmark = pytest.mark.slow
BATCH = 8
STEP = 1  # so that queues, centres and teachers have lived
CASES = [*TERMS, *MODIFIERS, "everything"]
LOSS = "loss of the batch"  # beside the names of parameters
Outcome = tuple[Tensor, dict[str, Tensor]]  # loss, gradients by parameter


def objective(case: str) -> ObjectiveConfig:
    """Weigh one term beside the CLIP loss, one modifier of it, or everything at once."""
    learnable = TemperatureConfig(regime="learnable", initial=0.3)
    if case == "everything":
        return ObjectiveConfig(weights=dict.fromkeys(TERMS, 0.5), temperature=learnable)
    if case in MODIFIERS:
        return ObjectiveConfig(modifiers={case: 1.0}, temperature=learnable)
    return ObjectiveConfig(weights={"clip": 1.0, case: 0.5}, temperature=learnable)


def build(shard: str, out: Path, case: str, **changes: Any) -> Run:
    """Start a run in float64 and make one update, for what has a memory."""
    settings: TrainConfig = config(shard, objective=objective(case), batch_size=BATCH, **changes)
    pairs = load_pairs(shard, image_size=settings.stored_size, context_length=settings.model.context_length)
    run = Run(settings, out, pairs, None, time.perf_counter())
    run.advance()
    for module in (run.model, run.modules, *([] if run.teacher is None else [run.teacher])):
        module.double()
    run.state.table_VW.data = run.state.table_VW.data.double()
    run.state.optimizer.zero_grad(set_to_none=True)
    return run


def gradients(run: Run) -> dict[str, Tensor]:
    return {name: p.grad for name, p in run.state._named() if p.grad is not None}


def names_of(run: Run) -> tuple[str, ...]:
    return views_of(run.config.objective.weights_at(STEP, run.config.steps))


def in_one_piece(shard: str, out: Path, case: str) -> Outcome:
    """Compute the loss of a batch and its gradients in one piece."""
    run = build(shard, out, case)
    batch = run.batches.batch(STEP, dict.fromkeys(VIEWS[name].part for name in names_of(run)))
    run._backward(batch, names_of(run))
    return run.loss.total.detach(), gradients(run)


def share(shard: str, out: Path, case: str) -> Outcome:
    """Compute the same from this process's share of the rows."""
    run = build(shard, out, case)
    rank, size = dist.get_rank(), BATCH // dist.get_world_size()
    parts = dict.fromkeys(VIEWS[name].part for name in names_of(run))
    mine = run.batches.batch(STEP, parts).rows(rank * size, (rank + 1) * size)
    run._evaluate(gather_views(run.embed(mine, names_of(run), step=STEP)))
    run.loss.total.backward()
    average([parameter.grad for parameter in run.state.parameters if parameter.grad is not None])
    return run.loss.total.detach(), gradients(run)


def compare(one: Outcome, two: Outcome) -> float:
    """Give the largest difference, over the largest gradient; the same parameters must have one."""
    assert one[1].keys() == two[1].keys()
    largest = max(gradient.abs().max().item() for gradient in one[1].values())
    differences = [(one[1][name] - two[1][name]).abs().max().item() / largest for name in one[1]]
    return max(abs(one[0].item() - two[0].item()) / abs(one[0].item()), *differences)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_shard(tmp_path_factory.mktemp("shards") / "shapes.tar"))


@pytest.fixture(scope="module")
def whole(shard: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """Give the loss and the gradients of a case in one piece, computed once."""
    return cache(partial(in_one_piece, shard, tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def two_processes(shard: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the loss and the gradients of each case that each of two processes holds."""
    out = tmp_path_factory.mktemp("ranks")
    done = run_processes(2, "tests.pretrain.test_whole_batch", shard, str(out))
    assert [each.returncode for each in done] == [0, 0], done
    return out


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_loss_and_the_gradients_of_one(
    whole: Callable[[str], Outcome], two_processes: Path, case: str
) -> None:
    for rank in (0, 1):
        held = load_file(two_processes / f"{case}-{rank}.safetensors")
        assert compare(whole(case), (held.pop(LOSS), held)) < 1e-11


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole(
    shard: str, whole: Callable[[str], Outcome], tmp_path: Path, case: str, parts: int
) -> None:
    run = build(shard, tmp_path, case)
    run.config = replace(run.config, accumulate=parts)
    batch = run.batches.batch(STEP, dict.fromkeys(VIEWS[name].part for name in names_of(run)))
    run._backward(batch, names_of(run))
    assert compare(whole(case), (run.loss.total.detach(), gradients(run))) < 1e-11


def test_a_run_in_parts_ends_near_the_run_in_one_piece(shard: str, tmp_path: Path) -> None:
    from tests.pretrain.test_train import metrics, train

    for parts in (1, 2):
        settings = config(shard, objective=objective("everything"), accumulate=parts)
        train(settings, tmp_path / str(parts), progress=False)
    for one, two in zip(metrics(tmp_path / "1"), metrics(tmp_path / "2"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)  # float32, through Adam


def main(shard: str, out: Path) -> None:
    """Take the part of one process, and write what it holds at the end of each case."""
    torch.set_num_threads(1)
    with joined("cpu") as processes:
        for case in CASES:
            loss, of_parameters = share(shard, out, case)
            save_file({LOSS: loss, **of_parameters}, out / f"{case}-{processes.rank}.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
