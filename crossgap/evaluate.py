"""``python -m crossgap.evaluate``: measure an encoder on datasets by routes, and write rows and tables.

python -m crossgap.evaluate --encoder runs/demo/trials/baseline-s0 --dataset emoji --out runs/eval
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import tyro
from rich.console import Console

from crossgap.callable import EvaluateModule
from crossgap.command import run_command
from crossgap.datasets.build import INVERSION_TEMPLATE
from crossgap.datasets.features import feature_dataset
from crossgap.datasets.known.check import check_root
from crossgap.datasets.known.table import (
    PAPER_IMAGE_SETS,
    PAPER_LONG_TEXT_SETS,
    PAPER_TEXT_SETS,
    SPECS,
)
from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers.feature_files import read_features
from crossgap.datasets.readers.image_formats import allow_pixels
from crossgap.datasets.split import MissingSplit, split_name
from crossgap.datasets.tasks import Dataset
from crossgap.encoders.backbones import BACKBONES, backbone_of
from crossgap.encoders.devices import use_threads
from crossgap.encoders.loading import load_encoder
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.trained_runs import carry, trained_run
from crossgap.errors import InputError, check_known
from crossgap.evaluation import Evaluation, EvaluationConfig, InversionPlan, evaluate, joined
from crossgap.files import check_place, read_json, write_json
from crossgap.inversion.config import Engine, Method, Target
from crossgap.inversion.kept import Batch
from crossgap.inversion.presets import Schedule, looks
from crossgap.inversion.presets import preset as inversion_preset
from crossgap.plans import SEVERAL, changed_evaluation, changed_plan
from crossgap.progress import ItemProgress, say_notices, told
from crossgap.provenance import Provenance, config_hash
from crossgap.reading.published import compare_published, published_table
from crossgap.routes import ROUTES
from crossgap.settings.changes import nested, overlaid
from crossgap.settings.options import NO_CHANGES, Changes
from crossgap.settings.same import check_same
from crossgap.settings.strict import strict
from crossgap.summary import summary
from crossgap.vocabulary import Precision, Probe

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
    cache: Path | None = None,
    all_metrics: bool = False,
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
        encoder: an open_clip model name, a checkpoint folder or a run directory.
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
        schedule: the paper's, or fast, which reaches its loss in far fewer steps (docs/inversion.md).
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
        cache: folder of features and inversions that several outs may share; default: out/features.
        all_metrics: print every metric of gap and geometry, not the leading ones alone.
        smoke: the same path in its smallest form: 60 items of each side and 4 steps of inversion, unless
            --limit and --steps say otherwise; its numbers mean nothing, and its rows say so: their study is
            "evaluate, smoke".
    """
    if smoke:
        limit = SMOKE_LIMIT if limit is None else limit
        steps = SMOKE_STEPS if steps is None else steps
    routes = routes or (PAPER_ROUTES if preset else tuple(ROUTES))
    for route in routes:
        check_known(route, ROUTES, "route")
    if probes is None:
        probed = () if preset else EvaluationConfig.probes
    else:
        probed = strict(probes, tuple[Probe, ...], "--probes")
    if isinstance(steps, tuple):
        several = " ".join(map(str, steps))
        raise InputError(
            f"--steps {several}: one number, where inversion ends; --steps {max(steps, default=8)} "
            f"--snapshots {several} looks at earlier ones on its way"
        )
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, not {steps}")
    if backbone is not None:
        check_known(backbone, BACKBONES, "backbone")
    by_option = {"evaluation.routes": changes.options.get("routes"), "evaluation.probes": probes}
    changes.over({name: value for name, value in by_option.items() if value})
    said = nested(overlaid(changes.file, changes.given))
    if changes.show:
        resolved = {"routes": list(routes), "probes": list(probed), **said}
        changes.print(resolved, leave_out=("routes", "probes"))
        return 0
    check_place(out)
    use_threads(threads)
    allow_pixels(max_pixels)
    if embeddings:
        if encoder is not None or dataset or pretrained is not None or preset or backbone is not None:
            raise InputError(
                "--embeddings brings features and data along: leave --encoder, --backbone, --dataset, "
                "--pretrained and --preset out"
            )
    elif (encoder is None and backbone is None) or not (dataset or preset):
        raise InputError("give --encoder (or --backbone) and --dataset (or --preset paper), or --embeddings")
    if len(set(dataset)) < len(dataset):
        raise InputError(f"--dataset names one more than once: {' '.join(dataset)}")
    asked = dataset
    missing: tuple[str, ...] = ()
    deviations: list[str] = []
    if preset:
        if split != "test":
            raise InputError(f"--preset paper reports the paper's splits: leave --split {split} out")
        dataset, missing = _paper_sets(dataset, data_root)
        given = {
            "limit": limit,
            "steps": steps,
            "num-tokens": num_tokens,
            "template": template,
            "learning-rate": learning_rate,
            "weight-decay": weight_decay,
            "init-std": init_std,
            "method": method,
            "set": said,
        }
        deviations = [f"--{name}" for name, value in given.items() if value]
        deviations += ["--schedule fast"] if schedule != "paper" else []
        choose = "preset"
    with told("reading features"):
        table = read_features(embeddings) if embeddings else None
    jobs = (
        [_Job(", ".join(map(str, embeddings)), partial(feature_dataset, table, limit=limit), split)]
        if table is not None
        else [
            _Job(
                name,
                partial(
                    load_dataset,
                    name,
                    limit=limit,
                    data_root=data_root,
                    max_bad=max_bad,
                    whole_texts=whole_texts,
                ),
                SPECS[name].paper_split if preset and name in SPECS else split,
            )
            for name in dataset
        ]
    )
    # data are looked at before a model is loaded; a preset's have been checked, and are too many to hold
    loaded = {} if preset else {job.name: job.tested() for job in jobs}
    with told(f"loading {encoder or backbone or 'features'}"):
        source = table if table is not None else _encoder(encoder, backbone, pretrained, device, precision)
    known = backbone or backbone_of(source.name)

    compared = {
        "num_tokens": num_tokens,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "init_std": init_std,
        "method": method,
    }

    def config_of(job: _Job) -> EvaluationConfig:
        test = loaded.get(job.name)
        asked_template = test.default_template if test is not None else INVERSION_TEMPLATE
        of_model = BACKBONES[known].encoder if known and BACKBONES[known].model else source.name
        plans = _plans(
            of_model,
            schedule=schedule,
            steps=steps,
            compared={**compared, "template": template or (asked_template,)},
            snapshots=snapshots,
            seed=seed,
            engine=engine,
        )
        return changed_evaluation(
            EvaluationConfig(
                routes=routes, plans={} if table is not None else plans, seed=seed, probes=probed
            ),
            said.get("evaluation", {}),
            plans={},
            preset=partial(inversion_preset, of_model),
        )

    configs = {"preset" if preset else job.name: config_of(job) for job in jobs}
    about: dict[str, Any] = {
        "encoder": encoder,
        "pretrained": pretrained,
        "backbone": backbone,
        "preset": preset,
        "dataset": asked,  # with a preset not what was found: a set that comes later joins the others
        "embeddings": [str(path) for path in embeddings],
        "split": split,
        "limit": limit,
        "choose": choose,
    } | ({"smoke": True} if smoke else {})
    evaluations = {name: asdict(one) for name, one in configs.items()}
    settings = {**about, "fingerprint": source.fingerprint, "evaluation": evaluations}
    configs, document = _claim(out, settings, configs)
    run = trained_run(Path(encoder)) if encoder is not None else None
    if run is not None:
        carry(run, out)
    provenance = Provenance(
        study="evaluate, smoke" if smoke else "evaluate",
        arm=source.name if run is None else run.arm,
        seed=0 if run is None else run.seed,
        pairs_seen=None if run is None else run.pairs_seen,
        config_hash=config_hash(settings),
    )
    parts = []
    for number, job in enumerate(jobs, start=1):
        folder = out / "datasets" / _folder_name(number, job.name)
        if len(jobs) > 1:
            print(f"dataset {number} of {len(jobs)}: {job.name}", file=sys.stderr)
        test = loaded.get(job.name)
        name = "preset" if preset else job.name
        measured = config_hash(evaluations[name])
        done = Evaluation.read(folder, None if test is None else test.hash, measured)
        if done is None:
            test = test or job.tested()
            with ItemProgress() as progress:
                done = evaluate(
                    source,
                    test,
                    job.validation() if choose == "val" else None,
                    config=configs[name],
                    provenance=provenance,
                    cache=cache or out / "features",
                    progress=progress.start,
                )
            done.keep(folder, test.hash, measured)
            if any(done.reused[what] for what in ("features_read", "inversions_read")):
                print(
                    f"from {cache or out / 'features'}: {done.reused['features_read']} sets of features, "
                    f"{done.reused['inversions_read']} of inversions; new: {done.reused['encoded']} encoded, "
                    f"{done.reused['inverted']} inverted",
                    file=sys.stderr,
                )
        parts.append(done)
    write_json(out / "evaluation.json", document)
    result = joined(parts)
    result.write(out)
    console = Console(file=sys.stdout)
    with told("summing up"):
        parts_shown = list(
            summary(result.rows, result.tables["per_query"], result.skipped, all_metrics=all_metrics)
        )
    for part in parts_shown:
        console.print(part)
    if smoke:
        print(f"smoke form (limit {limit}, {steps} steps): the path works, the numbers mean nothing\n")
    if missing:
        print(f"not found below {data_root}: {', '.join(missing)}\n")
    if preset:
        for part in published_table(compare_published(result.rows, known, deviations), known):
            console.print(part)
    print(f"rows: {out / 'rows.jsonl'}")
    return 0


class _Job(NamedTuple):
    """A dataset to measure: how it is loaded, and which split is reported."""

    name: str
    load: Callable[..., Dataset]
    split: str

    def tested(self) -> Dataset:
        with told(f"reading {self.name}, split {self.split}"):
            test = self.load(split=self.split)
        if not test.tasks:
            raise InputError(
                f"dataset {test.name!r}, split {self.split!r}: no task can be made of it (no labels, no "
                "captions)"
            )
        say_notices(test.name, test.notices)
        return test

    def validation(self) -> Dataset | None:
        """Load split val to choose settings on, if there is one and it is not the split reported."""
        if split_name(self.split) == "val":
            return None
        try:
            with told(f"reading {self.name}, split val"):
                return self.load(split="val")
        except MissingSplit:
            return None


def _paper_sets(named: tuple[str, ...], data_root: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paper's datasets that are there (of those named) and those that are not; check the former.

    Raises:
        InputError: no root, none of them is there, or one is damaged; all problems are listed.
    """
    if data_root is None:
        raise InputError("--preset paper needs --data-root: the folder that holds the datasets' folders")
    wanted = named or (*PAPER_IMAGE_SETS, *PAPER_TEXT_SETS, *PAPER_LONG_TEXT_SETS)
    found = list(check_root(data_root, wanted))
    problems = [
        f"{one.name}: {problem}" for one in found if one.state == "damaged" for problem in one.problems
    ]
    if problems:
        raise InputError(
            f"--data-root {data_root} is damaged:\n  " + "\n  ".join(problems) + "\nmend it, or name the "
            "datasets to measure with --dataset; python -m crossgap.datasets checks it again"
        )
    there = tuple(one.name for one in found if one.state != "missing")
    if not there:
        raise InputError(f"--data-root {data_root} holds none of {', '.join(wanted)}; see docs/reproduce.md")
    return there, tuple(one.name for one in found if one.state == "missing")


def _encoder(
    encoder: str | None, backbone: str | None, pretrained: str | None, device: str, precision: Precision
) -> OpenClipEncoder:
    """Load the encoder, or that of a backbone: from the hub, or from a file whose tag is then known."""
    if backbone is None:
        return load_encoder(str(encoder), pretrained, device, precision)
    known = BACKBONES[backbone]
    if encoder is not None:
        return load_encoder(encoder, pretrained, device, precision)
    if not known.model or (not known.tag and pretrained is None):
        what = "--encoder DIR" if not known.model else "--pretrained FILE"
        raise InputError(f"backbone {backbone!r} needs {what}; its weights: {known.weights}")
    if pretrained is None or pretrained == known.tag:
        return load_encoder(known.model, known.tag, device, precision)
    loaded = load_encoder(
        known.file_model or known.model, pretrained, device, precision, tag=known.tag or None
    )
    loaded.name = known.encoder
    return loaded


def _plans(
    name: str,
    *,
    schedule: Schedule,
    steps: int | None,
    compared: Mapping[str, tuple[Any, ...]],
    snapshots: tuple[int, ...],
    seed: int,
    engine: Engine,
) -> dict[Target, InversionPlan]:
    """Make the plans of both directions; ``compared`` holds the values of a setting, none for its default."""
    plans: dict[Target, InversionPlan] = {}
    for into in get_args(Target):
        config = replace(inversion_preset(name, into, schedule), seed=seed)
        config = replace(config, steps=config.steps if steps is None else steps)
        plan = InversionPlan(
            config=config,
            token_counts=(config.num_tokens,),
            snapshots=snapshots or looks(config.steps),
            engine=engine,
        )
        given = {
            (axis if len(values) == 1 else SEVERAL[axis]): (values[0] if len(values) == 1 else values)
            for axis, values in compared.items()
            if values and (axis != "template" or into == "text")
        }
        plans[into] = changed_plan(plan, given, partial(inversion_preset, name, into), "inversion")
    return plans


def _folder_name(number: int, dataset: str) -> str:
    if dataset in SPECS:
        return dataset
    return f"{number:02d}-{re.sub('[^A-Za-z0-9.]+', '-', dataset)[-60:].strip('-.')}"


def _claim(
    out: Path, settings: dict[str, Any], configs: Mapping[str, EvaluationConfig]
) -> tuple[dict[str, EvaluationConfig], dict[str, Any]]:
    """Mark ``out`` as the folder of this evaluation, or go on in it, or add to it.

    Where nothing was finished, other settings take the place of those that were there. Returned are the
    evaluations, which take from the batches of earlier ones what was inverted there, and what to write into
    ``evaluation.json`` when they are done: a call that adds and fails leaves what was there as it was.

    Raises:
        InputError: it holds another evaluation (what differs is listed) or something else.
    """
    path = out / "evaluation.json"
    given = json.loads(json.dumps(settings))
    before: dict[str, Any] = {}
    made: dict[str, Any] = {}
    if path.exists():
        before = read_json(path)
        made = before.pop("batches", {})
        if not list(out.glob("datasets/*/result.json")):
            before = {}
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds other things than an evaluation; choose another --out")
    if before and before != given:
        _check_added(out, before, given)
    kept = {}
    for name, config in configs.items():
        earlier = made.get(name, {}) if before else {}
        plans = {
            into: replace(
                plan,
                within=strict(earlier.get(into, []), tuple[Batch, ...], f"{path}: batches.{name}.{into}"),
            )
            for into, plan in config.plans.items()
        }
        plans = {
            into: replace(
                plan, within=tuple(dict.fromkeys((*plan.within, *(batch for batch, _ in plan.made_in(into)))))
            )
            for into, plan in plans.items()
        }
        kept[name] = replace(config, plans=plans)
    used = {
        name: {into: [asdict(batch) for batch in plan.within] for into, plan in config.plans.items()}
        for name, config in kept.items()
    }
    document = {**given, "batches": json.loads(json.dumps(used))}
    if not before:
        write_json(path, document)
    return kept, document


def _check_added(out: Path, before: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse settings that differ from earlier ones otherwise than by more of what was measured.

    Raises:
        InputError: names what differs, or what is left out.
    """
    check_same(out, before | {"evaluation": None}, given | {"evaluation": None})
    for name, earlier in before["evaluation"].items():
        now = given["evaluation"].get(name)
        if now is None:
            check_same(out, before, given)
        old, new = (
            strict({**values, "plans": {}}, EvaluationConfig, f"{out / 'evaluation.json'}: {name}")
            for values in (earlier, now)
        )
        check_same(
            out,
            asdict(replace(old, routes=(), probes=())),
            asdict(replace(new, routes=(), probes=())),
        )
        gone = [f"route {route}" for route in old.routes if route not in new.routes]
        gone += [f"probe {probe}" for probe in old.probes if probe not in new.probes]
        for into, values in earlier["plans"].items():
            if into not in now["plans"]:
                gone.append(f"inversion into {into}")
                continue
            plan, wanted = (
                strict(entry, InversionPlan, f"{out / 'evaluation.json'}: {name}.{into}")
                for entry in (values, now["plans"][into])
            )
            lost = [step for step in plan.snapshots if step not in wanted.snapshots]
            gone += [f"steps {lost} of inversion into {into}"] if lost else []
            there = {replace(config, steps=0) for config in wanted.configs}
            gone += [
                f"inversion into {into} with {config}"
                for config in plan.configs
                if replace(config, steps=0) not in there
            ]
        if gone:
            shown = "; ".join(gone[:4]) + (f"; and {len(gone) - 4} more" if len(gone) > 4 else "")
            raise InputError(
                f"{out} was measured with other settings, which this call leaves out: {shown}; name them too "
                "to add to what is there, or give another --out"
            )


# from Python, `crossgap.evaluate(...)` is the function of docs/python.md
sys.modules[__name__].__class__ = EvaluateModule


if __name__ == "__main__":
    sys.exit(run_command(main, settings=("evaluation",), example="evaluation.text.learning_rate=0.005"))
