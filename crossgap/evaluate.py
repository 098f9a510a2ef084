"""``python -m crossgap.evaluate``: measure an encoder on datasets by routes, and write rows and tables.

python -m crossgap.evaluate --encoder runs/demo/trials/baseline-s0 --dataset emoji --out runs/eval
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console, RenderableType

from crossgap.callable import EvaluateModule
from crossgap.command import run_command
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.files import check_place
from crossgap.inversion.config import Engine, Method
from crossgap.inversion.presets import Schedule
from crossgap.progress import told
from crossgap.settings.changes import nested, overlaid
from crossgap.settings.options import NO_CHANGES, Changes
from crossgap.settings.strict import strict
from crossgap.vocabulary import ROUTE_WORDS, Precision, Probe

if TYPE_CHECKING:
    from crossgap.evaluation.result import Evaluation

# What --preset paper measures: its inversions, with placebos and maps that cost little beside them.
PAPER_ROUTES = (
    "chance", "native", "oti", "ovi", "untrained_tokens", "centred", "class_pca", "random_subspace",
    "isoclip",
)  # fmt: skip
# of the smallest form: items of each side, steps of inversion
SMOKE_LIMIT, SMOKE_STEPS = 60, 4


def main(
    *,
    out: Path,
    encoder: str | None = None,
    dataset: tuple[str, ...] = (),
    embeddings: tuple[Path, ...] = (),
    pretrained: str | None = None,
    preset: Literal["paper"] | None = None,
    backbone: str | None = None,
    data_root: Path | None = None,
    split: str = "test",
    routes: tuple[str, ...] = (),
    probes: tuple[str, ...] | None = None,
    limit: int | None = None,
    max_bad: int = 0,
    max_pixels: int | None = None,
    whole_texts: bool = False,
    choose: Literal["val", "preset"] = "val",
    schedule: Schedule = "paper",
    steps: Annotated[int | tuple[int, ...] | None, tyro.conf.arg(metavar="INT")] = None,
    num_tokens: tuple[int, ...] = (),
    learning_rate: tuple[float, ...] = (),
    weight_decay: tuple[float, ...] = (),
    init_std: tuple[float, ...] = (),
    method: tuple[Method, ...] = (),
    snapshots: tuple[int, ...] = (),
    template: tuple[str, ...] = (),
    seed: int = 0,
    engine: Engine = "auto",
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    cache: Path | None = None,
    details: bool = False,
    smoke: bool = False,
    changes: Changes = NO_CHANGES,
) -> int:
    """Measure an encoder on datasets, or features made elsewhere: retrieval by routes, zero-shot, gap.

    Each dataset that is done is kept in out/datasets, so that the same command resumes an interrupted run. To
    add routes or inversion settings to a finished out, name those that it has and the new ones: nothing is
    encoded again, and only what is new is inverted; a call that leaves one out is refused. Of a model trained
    here the settings, the curves, the arm and the seed of its training go along, so that python -m
    analysis.report compares several such folders as arms of a study.

    Args:
        out: folder for rows.jsonl and the tables that pictures are drawn from.
        encoder: an open_clip model name, a checkpoint folder of open_clip or transformers, hf:OWNER/NAME
            (transformers) or hf-hub:OWNER/NAME (open_clip) of the hub, or a run directory.
        dataset: known datasets (python -m crossgap.datasets), scenes with options (scenes:mention=0.3),
            folders of class folders, shards 'path/{000..003}.tar', tables (CSV, parquet), or hf:OWNER/NAME.
        embeddings: instead of --encoder and --dataset: files of features made by any model, of one
            dataset (docs/embeddings.md).
        pretrained: with a model name: a tag, a weights file, or 'random'.
        preset: the paper's datasets, splits and settings, beside its figures (docs/reproduce.md).
        backbone: a model of the paper, in place of --encoder; --pretrained FILE says where its weights lie.
        data_root: folder that holds the folders of known datasets.
        split: split to report; settings are chosen on split val where there is one. Data without splits
            are measured whole, which is printed and written as split all.
        routes: how query and gallery are made; default: all, with a preset inversion and some controls.
        probes: classify images by training images with classes: class-mean, by the nearest mean of a class;
            linear-probe (slow); '--probes' alone: neither; default: class-mean, with a preset neither.
        limit: keep so many concepts (emoji), scenes, or items of each side, spread over the classes.
        max_bad: samples of each dataset that cannot be used to leave out, counted in the protocol; each image
            is then decoded once more.
        max_pixels: of an image that is decoded; default: Pillow's limit, 178,956,970.
        whole_texts: the .txt part of a sample is one caption, not one a line.
        choose: where ranks, strengths and inversion settings come from: split val, or published values.
        schedule: the paper's, or fast: L-BFGS in 20 steps into text, 60 into images, which come near the
            paper's loss on some towers and not on others (docs/inversion.md).
        steps: where inversion ends, of both directions, one number; default: the schedule's for this encoder.
            Earlier steps cost nothing more: --snapshots.
        num_tokens: pseudo-token counts to compare; default: the paper's for this encoder.
        learning_rate: learning rates of inversion to compare.
        weight_decay: weight decays of AdamW to compare.
        init_std: standard deviations of the initial noise to compare.
        method: optimizers to compare: adamw, lbfgs.
        snapshots: steps at which inverted features are scored, as --steps 8 --snapshots 4 8.
        template: prompts of OTI to compare, with {} for the pseudo-tokens; default: the dataset's.
        seed: of inversion noise and random controls.
        engine: lean, tower, or auto (lean where the towers allow it).
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice.
        workers: threads that decode images while the encoder works; they change no bit. Default: as many as
            CPU threads, beside a GPU the cores but one; at most 16, shared by the processes of a machine.
        batch_size: items encoded, and items inverted, side by side, which is written into the rows: with
            another number the last bits of features differ. Default: 256 and 64, on CUDA more as its memory
            grows.
        cache: folder of features and inversions that several runs may share; default: out/features.
        details: print every route of every task and every metric of gap and geometry, not the leading ones
            alone.
        smoke: the same path in its smallest form: 60 items of each side and 4 steps of inversion, unless
            --limit and --steps say otherwise; its numbers mean nothing, and its rows say so: their study is
            "evaluate, smoke".
    """
    # only now, so that --help answers at once: these load torch
    from crossgap.compute import Compute
    from crossgap.datasets.readers.image_formats import allow_pixels
    from crossgap.encoders.devices import use_threads
    from crossgap.evaluation.call import Data, ModelSource, Wanted, answer, check_steps
    from crossgap.processes import PATIENCE, joined

    if smoke:
        limit = SMOKE_LIMIT if limit is None else limit
        steps = SMOKE_STEPS if steps is None else steps
    by_option = {"evaluation.routes": changes.options.get("routes"), "evaluation.probes": probes}
    changes.over({name: value for name, value in by_option.items() if value})
    said = nested(overlaid(changes.file, changes.given))
    source = ModelSource(encoder, backbone, pretrained, embeddings, device, precision)
    data = Data(dataset, preset, data_root, split, limit, max_bad, whole_texts)
    wanted = Wanted(
        routes=routes or (PAPER_ROUTES if preset else tuple(ROUTE_WORDS)),
        probes=_probes(probes, preset),
        schedule=schedule,
        steps=check_steps(steps),
        compared={
            "num_tokens": num_tokens,
            "template": template,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "init_std": init_std,
            "method": method,
        },
        snapshots=snapshots,
        seed=seed,
        engine=engine,
        said=said.get("evaluation", {}),
    )
    if changes.show:
        resolved = {"routes": list(wanted.routes), "probes": list(wanted.probes), **said}
        changes.print(resolved, leave_out=("routes", "probes"))
        return 0
    check_place(out)
    use_threads(threads)
    allow_pixels(max_pixels)
    choose = "preset" if preset else choose
    with joined(device, patience=PATIENCE) as processes:
        compute = Compute(workers=workers, batch_size=batch_size, processes=processes)
        source = source._replace(device=processes.device or device)
        result, backbone, missing = answer(
            source, data, wanted, out=out, choose=choose, cache=cache, smoke=smoke, compute=compute
        )
    if not processes.first:
        return 0
    _say(result, details=details)
    if smoke:
        print(f"smoke form (limit {limit}, {steps} steps): the path works, the numbers mean nothing\n")
    if missing:
        print(f"not found below {data_root}: {', '.join(missing)}\n")
    if preset:
        _say_published(result, backbone, wanted.deviations(limit=limit, said=said))
    print(f"rows: {out / 'rows.jsonl'}")
    return 0


def _probes(given: tuple[str, ...] | None, preset: str | None) -> tuple[Probe, ...]:
    if given is None:
        return () if preset else EvaluationConfig.probes
    probes: tuple[Probe, ...] = strict(given, tuple[Probe, ...], "--probes")
    return probes


def _say(result: Evaluation, *, details: bool) -> None:
    from crossgap.evaluation.summary import summary

    with told("summing up"):
        shown = list(summary(result.rows, result.tables["per_query"], result.skipped, details=details))
    _print(shown)


def _say_published(result: Evaluation, backbone: str | None, deviations: list[str]) -> None:
    from crossgap.reading.published import compare_published, published_table

    _print(published_table(compare_published(result.rows, backbone, deviations), backbone))


def _print(parts: Iterable[RenderableType]) -> None:
    console = Console(file=sys.stdout)
    for part in parts:
        console.print(part)


# from Python, `crossgap.evaluate(...)` is the function of docs/python.md
sys.modules[__name__].__class__ = EvaluateModule


if __name__ == "__main__":
    sys.exit(run_command(main, settings=("evaluation",), example="evaluation.text.learning_rate=0.005"))
