"""What a call asks for: the model, the data, how they are measured; and the measuring of it all."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from crossgap.compute import Compute
from crossgap.datasets.build import INVERSION_TEMPLATE
from crossgap.datasets.readers.feature_files import FeatureTable, read_features
from crossgap.datasets.readers.stored import digests_shared
from crossgap.datasets.tasks import Dataset
from crossgap.encoders.backbones import BACKBONES, backbone_of
from crossgap.encoders.loading import load_encoder
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.protocol import Encoder
from crossgap.encoders.trained_runs import carry, trained_run
from crossgap.errors import InputError, check_known
from crossgap.evaluation.changed_plans import changed_evaluation, preset_plans
from crossgap.evaluation.folder import claim, folder_name, measure_once
from crossgap.evaluation.jobs import Job, dataset_jobs, feature_job, paper_jobs, paper_sets
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.result import Evaluation, joined
from crossgap.evaluation.routes import ROUTES
from crossgap.files import write_json
from crossgap.inversion.config import Engine
from crossgap.inversion.presets import Schedule
from crossgap.inversion.presets import preset as inversion_preset
from crossgap.progress import told
from crossgap.provenance import Provenance, config_hash
from crossgap.vocabulary import Precision, Probe


class ModelSource(NamedTuple):
    """What is measured: an encoder, a backbone of the paper, or files of features; options of the command."""

    encoder: str | None
    backbone: str | None
    pretrained: str | None
    embeddings: tuple[Path, ...]
    device: str
    precision: Precision


class Data(NamedTuple):
    """On which datasets: options of the command."""

    datasets: tuple[str, ...]
    preset: str | None
    root: Path | None
    split: str
    limit: int | None
    max_bad: int
    whole_texts: bool


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How datasets are measured, as the options of a call say it; ``said`` are settings by their names."""

    routes: tuple[str, ...]
    probes: tuple[Probe, ...]
    schedule: Schedule
    steps: int | None
    compared: Mapping[str, tuple[Any, ...]]
    snapshots: tuple[int, ...]
    seed: int
    engine: Engine
    said: Mapping[str, Any]

    def config(
        self,
        source: Encoder | FeatureTable,
        backbone: str | None,
        default_template: str,
        compute: Compute,
    ) -> EvaluationConfig:
        """Give the configuration for a model and a dataset with its template of prompts."""
        model = BACKBONES[backbone].encoder if backbone and BACKBONES[backbone].model else source.name
        plans = (
            {}
            if isinstance(source, FeatureTable)
            else preset_plans(
                model,
                schedule=self.schedule,
                steps=self.steps,
                compared={**self.compared, "template": self.compared["template"] or (default_template,)},
                snapshots=self.snapshots,
                seed=self.seed,
                engine=self.engine,
                batch_size=compute.inverted_at_once(source.device),
            )
        )
        return changed_evaluation(
            EvaluationConfig(routes=self.routes, plans=plans, seed=self.seed, probes=self.probes),
            self.said,
            plans={},
            preset=partial(inversion_preset, model),
        )

    def deviations(self, *, limit: int | None, said: Mapping[str, Any]) -> list[str]:
        """List the options by which a call differs from the preset."""
        options = {"limit": limit, "steps": self.steps, **self.compared, "set": said}
        named = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
        fast = "--schedule fast (docs/inversion.md says on which towers it reaches the paper's loss)"
        return named + ([fast] if self.schedule != "paper" else [])


class Outcome(NamedTuple):
    """Rows and tables, the backbone that the model is, and the datasets that are not there."""

    evaluation: Evaluation
    backbone: str | None
    missing: tuple[str, ...]


def answer(
    source: ModelSource,
    data: Data,
    wanted: Wanted,
    *,
    out: Path,
    choose: str,
    cache: Path | None,
    smoke: bool,
    compute: Compute,
) -> Outcome:
    """Measure what a call asks for, and write rows and tables into ``out``.

    Args:
        source: the model or the features.
        data: the datasets.
        wanted: routes, inversions, probes.
        out: the folder of the evaluation; datasets that are done there are not measured again.
        choose: ``val``, or ``preset`` for published settings.
        cache: of features and inversions; default: in ``out``.
        smoke: mark rows as those of a smoke form.
        compute: with what items are encoded and inverted.

    Raises:
        InputError: options that contradict each other, or what they name cannot be had.
    """
    _check(source, data, wanted)
    sets, missing = paper_sets(data.datasets, data.root) if data.preset else (data.datasets, ())
    with told("reading features"):
        table = read_features(source.embeddings) if source.embeddings else None
    options = {
        "limit": data.limit,
        "data_root": data.root,
        "max_bad": data.max_bad,
        "whole_texts": data.whole_texts,
    }
    if table is not None:
        jobs = [feature_job(table, source.embeddings, data.split, limit=data.limit)]
    else:
        jobs = paper_jobs(sets, **options) if data.preset else dataset_jobs(sets, data.split, **options)
    # data are looked at before a model is loaded; a preset's have been checked, and are too many to hold
    with digests_shared(compute.processes):
        loaded = {} if data.preset else {job.name: job.tested() for job in jobs}
    with told(f"loading {source.encoder or source.backbone or 'features'}"):
        model = table if table is not None else load_source(*source[:3], source.device, source.precision)
    backbone = source.backbone or backbone_of(model.name)
    about: dict[str, Any] = {
        "encoder": source.encoder,
        "pretrained": source.pretrained,
        "backbone": source.backbone,
        "preset": data.preset,
        "dataset": data.datasets,  # with a preset not what was found: a set that comes later joins the others
        "embeddings": [str(path) for path in source.embeddings],
        "split": data.split,
        "limit": data.limit,
        "choose": choose,
    } | ({"smoke": True} if smoke else {})
    evaluation = _measure_all(
        jobs,
        model,
        wanted,
        out=out,
        about=about,
        loaded=loaded,
        backbone=backbone,
        cache=cache or out / "features",
        compute=compute,
    )
    return Outcome(evaluation, backbone, missing)


def _measure_all(
    jobs: Sequence[Job],
    source: Encoder | FeatureTable,
    wanted: Wanted,
    *,
    out: Path,
    about: Mapping[str, Any],
    loaded: Mapping[str, Dataset],
    backbone: str | None,
    cache: Path,
    compute: Compute,
) -> Evaluation:
    """Measure every dataset that is not kept in ``out`` yet, and write rows and tables of them together.

    Args:
        about: the options that say what is measured.
        loaded: the datasets; a preset, which has one configuration for all of them, loads each in its turn.
        known: the backbone that the model is.
    """
    templates = {name: test.default_template for name, test in loaded.items()}
    configs = {
        name: wanted.config(source, backbone, template, compute)
        for name, template in (templates or {"preset": INVERSION_TEMPLATE}).items()
    }
    evaluations = {name: asdict(config) for name, config in configs.items()}
    settings = {**about, "fingerprint": source.fingerprint, "evaluation": evaluations}
    processes = compute.processes
    processes.check_same(
        config_hash(settings), "the processes do not agree on what to measure: is it one command and model?"
    )
    document: dict[str, Any] = {}
    for turn in (True, False):  # the others read what the first one finds or writes
        with processes.alike():
            if processes.first is turn:
                configs, document = claim(out, settings, configs, processes)
    provenance = _provenance(source.name, about["encoder"], settings, out if processes.first else None)
    if not isinstance(source, FeatureTable):
        batches = batches_in_words(compute.encoded_at_once(source.device), configs.values())
        provenance = replace(provenance, batches=batches)
    parts = []
    for number, job in enumerate(jobs, start=1):
        if len(jobs) > 1 and processes.first:
            print(f"dataset {number} of {len(jobs)}: {job.name}", file=sys.stderr)
        name = job.name if loaded else "preset"
        part = measure_once(
            source,
            job,
            loaded.get(job.name),
            folder=out / "datasets" / folder_name(number, job.name),
            config=configs[name],
            settings_hash=config_hash(evaluations[name]),
            on_val=about["choose"] == "val",
            provenance=provenance,
            cache=cache,
            compute=compute,
        )
        if processes.first:
            _say_reused(part, cache)
        parts.append(part)
    result = joined(parts)
    if processes.first:
        write_json(out / "evaluation.json", document)
        result.write(out)
    return result


def check_steps(steps: int | tuple[int, ...] | None) -> int | None:
    """Take the one number of steps where an inversion ends.

    Raises:
        InputError: several, or less than one.
    """
    if isinstance(steps, tuple):
        several = " ".join(map(str, steps))
        raise InputError(
            f"--steps {several}: one number, where inversion ends; --steps {max(steps, default=8)} "
            f"--snapshots {several} looks at earlier ones on its way"
        )
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, not {steps}")
    return steps


def _check(source: ModelSource, data: Data, wanted: Wanted) -> None:
    """Refuse a call that says too little or too much of what is measured.

    Raises:
        InputError: features and a model, neither of them, no dataset, or one twice; an unknown name.
    """
    for route in wanted.routes:
        check_known(route, ROUTES, "route")
    if source.backbone is not None:
        check_known(source.backbone, BACKBONES, "backbone")
    if source.embeddings:
        if any((source.encoder, data.datasets, source.pretrained, data.preset, source.backbone)):
            raise InputError(
                "--embeddings brings features and data along: leave --encoder, --backbone, --dataset, "
                "--pretrained and --preset out"
            )
    elif (source.encoder is None and source.backbone is None) or not (data.datasets or data.preset):
        raise InputError("give --encoder (or --backbone) and --dataset (or --preset paper), or --embeddings")
    if len(set(data.datasets)) < len(data.datasets):
        raise InputError(f"--dataset names one more than once: {' '.join(data.datasets)}")
    if data.preset and data.split != "test":
        raise InputError(f"--preset paper reports the paper's splits: leave --split {data.split} out")


def batches_in_words(encoded: int, configs: Iterable[EvaluationConfig]) -> str:
    """Say how many items are worked on side by side, which is what changes the last bits of numbers."""
    inverted = {plan.config.batch_size for config in configs for plan in config.plans.values()}
    return f"batch={encoded}" + "".join(f" inversion_batch={size}" for size in sorted(inverted))


def _provenance(name: str, encoder: str | None, settings: Mapping[str, Any], out: Path | None) -> Provenance:
    """Say what is known of the model; of one trained here its settings and curves go along to ``out``."""
    run = trained_run(Path(encoder)) if encoder is not None else None
    if run is not None and out is not None:
        carry(run, out)
    return Provenance(
        study="evaluate, smoke" if settings.get("smoke") else "evaluate",
        arm=name if run is None else run.arm,
        seed=0 if run is None else run.seed,
        pairs_seen=None if run is None else run.pairs_seen,
        config_hash=config_hash(settings),
    )


def _say_reused(part: Evaluation, cache: Path) -> None:
    """Say what was read from the cache, if anything was."""
    reused = part.reused
    if any(reused.get(what) for what in ("features_read", "inversions_read")):
        print(
            f"from {cache}: {reused['features_read']} sets of features, "
            f"{reused['inversions_read']} of inversions; new: {reused['encoded']} encoded, "
            f"{reused['inverted']} inverted",
            file=sys.stderr,
        )


def load_source(
    encoder: str | None, backbone: str | None, pretrained: str | None, device: str, precision: Precision
) -> OpenClipEncoder:
    """Load the encoder, or that of a backbone: from the hub, or from a file whose tag is then known."""
    if backbone is None:
        return load_encoder(str(encoder), pretrained, device, precision)
    entry = BACKBONES[backbone]
    if encoder is not None:
        return load_encoder(encoder, pretrained, device, precision)
    if not entry.model or (not entry.tag and pretrained is None):
        what = "--encoder DIR" if not entry.model else "--pretrained FILE"
        raise InputError(f"backbone {backbone!r} needs {what}; its weights: {entry.weights}")
    if pretrained is None or pretrained == entry.tag:
        return load_encoder(entry.model, entry.tag, device, precision)
    loaded = load_encoder(
        entry.file_model or entry.model, pretrained, device, precision, tag=entry.tag or None
    )
    loaded.name = entry.encoder
    return loaded
