"""``python -m crossgap.evaluate``: measure an encoder on datasets by routes, and write rows and tables.

python -m crossgap.evaluate --encoder runs/demo/trials/baseline-s0 --dataset emoji --out runs/eval
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console, RenderableType

from crossgap.backbones import BACKBONES, backbone_of
from crossgap.changes import nested, overlaid
from crossgap.command import run_command
from crossgap.datasets import Dataset, Probe
from crossgap.datasets.build import INVERSION_TEMPLATE
from crossgap.datasets.image_formats import allow_pixels
from crossgap.encode import use_threads
from crossgap.encoders import Encoder, OpenClipEncoder, Precision, load_encoder
from crossgap.errors import InputError, check_known
from crossgap.evaluation import Evaluation, EvaluationConfig, joined
from crossgap.evaluation.changed_plans import changed_evaluation, preset_plans
from crossgap.evaluation.folder import claim, folder_name, measure_once
from crossgap.evaluation.jobs import Job, dataset_jobs, feature_job, paper_jobs, paper_sets
from crossgap.evaluation.routes import ROUTES
from crossgap.evaluation.summary import summary
from crossgap.face import EvaluateModule
from crossgap.feature_files import FeatureTable, read_features
from crossgap.inversion import Engine, Method
from crossgap.options import NO_CHANGES, Changes
from crossgap.presets import Schedule
from crossgap.presets import preset as inversion_preset
from crossgap.progress import told
from crossgap.provenance import Provenance, config_hash
from crossgap.published import compare_published, published_table
from crossgap.records import check_place, write_json
from crossgap.trained_runs import carry, trained_run

# What --preset paper measures: its inversions, with placebos and maps that cost little beside them.
PAPER_ROUTES = (
    "chance", "native", "oti", "ovi", "untrained_tokens", "centred", "class_pca", "random_subspace",
    "isoclip",
)  # fmt: skip


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
    probes: tuple[Probe, ...] | None = None,
    limit: int | None = None,
    max_bad: int = 0,
    max_pixels: int | None = None,
    whole_texts: bool = False,
    choose: Literal["val", "preset"] = "val",
    schedule: Schedule = "paper",
    steps: int | None = None,
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
    changes: Changes = NO_CHANGES,
) -> int:
    """Measure an encoder on datasets, or features made elsewhere: retrieval by routes, zero-shot, gap.

    Each dataset that is done is kept in out/datasets, so that the same command resumes an interrupted run. A
    call that adds routes or inversion settings to those of a finished out encodes nothing again, and inverts
    what is new. Of a model trained here the settings, the curves, the arm and the seed of its training go
    along, so that python -m analysis.report compares several such folders as arms of a study.

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
        split: split to report; settings are chosen on split val where there is one.
        routes: how query and gallery are made; default: all, with a preset inversion and some controls.
        probes: classify images by training images with classes: by the nearest class mean, by a linear
            probe (slow); '--probes' alone: neither; default: class-mean, with a preset neither.
        limit: keep so many concepts (emoji), scenes, or items of each side, spread over the classes.
        max_bad: samples of each dataset that cannot be used to leave out, counted in the protocol; each image
            is then decoded once more.
        max_pixels: of an image that is decoded; default: Pillow's limit, 178,956,970.
        whole_texts: the .txt part of a sample is one caption, not one a line.
        choose: where ranks, strengths and inversion settings come from: split val, or published values.
        schedule: the paper's, or fast, which reaches its loss in far fewer steps (docs/inversion.md).
        steps: inversion steps, of both directions; default: the schedule's for this encoder.
        num_tokens: pseudo-token counts to compare; default: the paper's for this encoder.
        learning_rate: learning rates of inversion to compare.
        weight_decay: weight decays of AdamW to compare.
        init_std: standard deviations of the initial noise to compare.
        method: optimizers to compare: adamw, lbfgs.
        snapshots: steps at which inverted features are scored.
        template: prompts of OTI to compare, with {} for the pseudo-tokens; default: the dataset's.
        seed: of inversion noise and random controls.
        engine: lean, tower, or auto (lean where the towers allow it).
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice.
        cache: folder of features and inversions that several outs may share; default: out/features.
        all_metrics: print every metric of gap and geometry, not the leading ones alone.
    """
    routes = routes or (PAPER_ROUTES if preset else tuple(ROUTES))
    probed = probes if probes is not None else () if preset else EvaluationConfig.probes
    _check_names(routes, steps, backbone)
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
    _check_source(encoder, backbone, dataset, embeddings, pretrained, preset)
    wanted = _Wanted(
        routes=routes,
        probes=probed,
        schedule=schedule,
        steps=steps,
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
    if preset and split != "test":
        raise InputError(f"--preset paper reports the paper's splits: leave --split {split} out")
    sets, missing = paper_sets(dataset, data_root) if preset else (dataset, ())
    choose = "preset" if preset else choose
    with told("reading features"):
        table = read_features(embeddings) if embeddings else None
    options = {"limit": limit, "data_root": data_root, "max_bad": max_bad, "whole_texts": whole_texts}
    jobs = (
        [feature_job(table, embeddings, split, limit=limit)]
        if table is not None
        else (paper_jobs(sets, **options) if preset else dataset_jobs(sets, split, **options))
    )
    # data are looked at before a model is loaded; a preset's have been checked, and are too many to hold
    loaded = {} if preset else {job.name: job.tested() for job in jobs}
    with told(f"loading {encoder or backbone or 'features'}"):
        source = table if table is not None else _encoder(encoder, backbone, pretrained, device, precision)
    known = backbone or backbone_of(source.name)
    about: dict[str, Any] = {
        "encoder": encoder,
        "pretrained": pretrained,
        "backbone": backbone,
        "preset": preset,
        "dataset": dataset,  # with a preset not what was found: a set that comes later joins the others
        "embeddings": [str(path) for path in embeddings],
        "split": split,
        "limit": limit,
        "choose": choose,
    }
    result = _measure_all(
        jobs,
        source,
        wanted,
        out=out,
        about=about,
        loaded=loaded,
        known=known,
        cache=cache or out / "features",
    )
    with told("summing up"):
        shown = summary(result.rows, result.tables["per_query"], result.skipped, all_metrics=all_metrics)
    _print(shown)
    if missing:
        print(f"not found below {data_root}: {', '.join(missing)}\n")
    if preset:
        deviations = wanted.deviations(limit=limit, said=said)
        _print(published_table(compare_published(result.rows, known, deviations), known))
    print(f"rows: {out / 'rows.jsonl'}")
    return 0


@dataclass(frozen=True, kw_only=True)
class _Wanted:
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
        self, source: Encoder | FeatureTable, backbone: str | None, default_template: str
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
        given = {"limit": limit, "steps": self.steps, **self.compared, "set": said}
        named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
        return named + (["--schedule fast"] if self.schedule != "paper" else [])


def _measure_all(
    jobs: Sequence[Job],
    source: Encoder | FeatureTable,
    wanted: _Wanted,
    *,
    out: Path,
    about: Mapping[str, Any],
    loaded: Mapping[str, Dataset],
    known: str | None,
    cache: Path,
) -> Evaluation:
    """Measure every dataset that is not kept in ``out`` yet, and write rows and tables of them together.

    Args:
        about: the options that say what is measured.
        loaded: the datasets; a preset, which has one configuration for all of them, loads each in its turn.
        known: the backbone that the model is.
    """
    templates = {name: test.default_template for name, test in loaded.items()}
    configs = {
        name: wanted.config(source, known, template)
        for name, template in (templates or {"preset": INVERSION_TEMPLATE}).items()
    }
    evaluations = {name: asdict(config) for name, config in configs.items()}
    settings = {**about, "fingerprint": source.fingerprint, "evaluation": evaluations}
    configs, document = claim(out, settings, configs)
    provenance = _provenance(source.name, about["encoder"], settings, out)
    parts = []
    for number, job in enumerate(jobs, start=1):
        if len(jobs) > 1:
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
        )
        _say_reused(part, cache)
        parts.append(part)
    write_json(out / "evaluation.json", document)
    result = joined(parts)
    result.write(out)
    return result


def _check_names(routes: tuple[str, ...], steps: int | None, backbone: str | None) -> None:
    for route in routes:
        check_known(route, ROUTES, "route")
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, not {steps}")
    if backbone is not None:
        check_known(backbone, BACKBONES, "backbone")


def _check_source(
    encoder: str | None,
    backbone: str | None,
    dataset: tuple[str, ...],
    embeddings: tuple[Path, ...],
    pretrained: str | None,
    preset: str | None,
) -> None:
    """Refuse a call that says too little or too much of what is measured.

    Raises:
        InputError: features and a model, neither of them, no dataset, or one twice.
    """
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


def _provenance(name: str, encoder: str | None, settings: Mapping[str, Any], out: Path) -> Provenance:
    """Say what is known of the model; of one trained here its settings and curves go along to ``out``."""
    run = trained_run(Path(encoder)) if encoder is not None else None
    if run is not None:
        carry(run, out)
    return Provenance(
        study="evaluate",
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


def _print(parts: Iterable[RenderableType]) -> None:
    console = Console(file=sys.stdout)
    for part in parts:
        console.print(part)


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


# from Python, `crossgap.evaluate(...)` is the function of docs/python.md
sys.modules[__name__].__class__ = EvaluateModule


if __name__ == "__main__":
    sys.exit(run_command(main, settings=("evaluation",), example="evaluation.text.learning_rate=0.005"))
