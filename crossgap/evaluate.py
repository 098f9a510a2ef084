"""``python -m crossgap.evaluate``: measure an encoder on a dataset by routes, and write rows and tables.

python -m crossgap.evaluate --encoder runs/demo/trials/baseline-s0 --dataset emoji --out runs/eval
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from crossgap import gap, misalignment
from crossgap.command import run_command
from crossgap.datasets import Dataset, Items, Task, load_dataset
from crossgap.datasets.split import MissingSplit
from crossgap.embeddings import Embeddings, embed
from crossgap.encoders import Encoder, Precision, load_encoder
from crossgap.errors import InputError, check_known
from crossgap.inversion import Engine, Inversion, InversionConfig, Target, invert_grid
from crossgap.jackknife import jackknife
from crossgap.pictures import histogram, neighbours, projection, spread_queries
from crossgap.presets import Schedule, preset
from crossgap.progress import ItemProgress
from crossgap.provenance import Provenance, commit, config_hash, versions
from crossgap.records import TABLES, Row, read_json, write_json, write_rows, write_table
from crossgap.relevance import Relevance, relevance_of
from crossgap.retrieval import macro_mean, retrieval_metrics
from crossgap.routes import ROUTES, FitEmbeddings, fitted_maps, missing_fit
from crossgap.settings import check_same
from crossgap.similarity import cosine_scores

KS = (1, 5, 10)
# The tasks whose mean average precision chooses the inversion setting on the validation split: retrieval by
# class is what the paper's image sets ask for. A dataset without them uses its first task of the kind.
SELECTION_TASKS = ("image-subgroup", "text-subgroup", "image-class")


@dataclass(frozen=True, kw_only=True)
class InversionPlan:
    """Inversions of one direction: settings, the token counts to compare, the steps to look at."""

    config: InversionConfig
    token_counts: tuple[int, ...]
    snapshots: tuple[int, ...]
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        if not self.token_counts or not any(self.snapshots):
            raise InputError("an inversion plan needs at least one token count and one snapshot step above 0")
        if len(set(self.token_counts)) != len(self.token_counts):
            raise InputError(f"token counts repeat themselves: {self.token_counts}")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to measure.

    Args:
        routes: names from :data:`crossgap.routes.ROUTES`; ``chance`` and ``native`` are always measured.
        plans: modality inverted into -> its plan.
        seed: of random subspaces and of the split that linear separability is tested on.
        num_neighbours: queries shown with their neighbours.
    """

    routes: tuple[str, ...] = tuple(ROUTES)
    plans: dict[Target, InversionPlan] = field(default_factory=dict)
    seed: int = 0
    num_neighbours: int = 8

    def __post_init__(self) -> None:
        for route in self.routes:
            check_known(route, ROUTES, "route")
        if not self.plans and any(ROUTES[route].inverts for route in self.routes):
            raise InputError(f"routes {self.routes} invert, but no inversion plan was given")


@dataclass
class Evaluation:
    """Rows, the tables that pictures need, and what could not be measured with the reason."""

    rows: list[Row]
    tables: dict[str, pd.DataFrame]
    skipped: dict[str, str]

    def write(self, out: Path) -> None:
        """Write the tables, then ``rows.jsonl``; each file atomically."""
        for name, frame in self.tables.items():
            write_table(out, name, frame)
        write_rows(out / "rows.jsonl", self.rows)


@dataclass(frozen=True)
class _Scored:
    """A task's queries against its gallery by one route."""

    task: Task
    route: str
    scores_QG: Tensor
    relevance: Relevance
    selection: str = "none"
    steps: int | None = None
    num_tokens: int | None = None
    seconds: float | None = None


def evaluate(
    encoder: Encoder,
    test: Dataset,
    val: Dataset | None,
    *,
    config: EvaluationConfig,
    provenance: Provenance,
    cache: Path | None = None,
    progress: Callable[[str, int], Callable[[int], None]] | None = None,
) -> Evaluation:
    """Measure ``encoder`` on the tasks of ``test``, choosing inversion settings on ``val``.

    Without ``val`` the last snapshot of the first token count is reported, with selection ``preset``.
    """
    return _Run(encoder, config, provenance, cache, progress).measure(test, val)


class _Run:
    """One evaluation under way: collects rows and tables while it walks the tasks."""

    def __init__(
        self,
        encoder: Encoder,
        config: EvaluationConfig,
        provenance: Provenance,
        cache: Path | None,
        progress: Callable[[str, int], Callable[[int], None]] | None,
    ) -> None:
        self.encoder = encoder
        self.config = config
        self.provenance = provenance
        self.cache = cache
        self.progress = progress or (lambda _what, _count: lambda _done: None)
        self.rows: list[Row] = []
        self.frames: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        self.skipped: dict[str, str] = {}
        self._embedded: dict[str, Embeddings] = {}
        self._loss_recorded: set[tuple[str, str, int]] = set()
        self._inverted: dict[tuple[str, Target], tuple[dict[int, Inversion], float]] = {}

    def measure(self, test: Dataset, val: Dataset | None) -> Evaluation:
        fit = self._fit_embeddings(test)
        chosen = {into: self._choose(into, val) for into in self.config.plans}
        kinds = {task.kind for task in test.tasks}
        for route in self.config.routes:
            if not kinds & set(ROUTES[route].kinds):
                self.skipped[route] = f"needs a task of kind {' or '.join(ROUTES[route].kinds)}"
        for task in test.tasks:
            self._task(task, test, fit, chosen)
        if test.pairs is not None:
            self._gap(test)
        columns = asdict(self.provenance)
        for frames in self.frames.values():
            for frame in frames:
                for key in ("study", "arm", "seed"):
                    frame[key] = columns[key]
        tables = {
            name: pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(TABLES[name]))
            for name, frames in self.frames.items()
        }
        return Evaluation(self.rows, tables, self.skipped)

    def _embed(self, items: Items) -> Tensor:
        key = items.content_hash
        if key not in self._embedded:
            tick = self.progress(f"encode {items.modality}s", len(items.ids))
            self._embedded[key] = embed(self.encoder, items, cache=self.cache, progress=tick)
        return self._embedded[key].join(items.ids)

    def _fit_embeddings(self, dataset: Dataset) -> FitEmbeddings:
        fit = dataset.fit
        wanted = {ROUTES[route].fits for route in self.config.routes}

        def part(name: str, reason: str) -> Embeddings | None:
            items = None if fit is None or reason not in wanted else getattr(fit, name)
            if items is None:
                return None
            self._embed(items)
            return self._embedded[items.content_hash]

        return FitEmbeddings(
            split=fit.split if fit else "none",
            images=part("images", "sides"),
            texts=part("texts", "sides"),
            class_prompts=part("class_prompts", "class_prompts"),
        )

    def _inversions(self, items: Items, into: Target) -> tuple[dict[int, Inversion], float]:
        """Invert the items of a query side once, however many tasks share it, all token counts together.

        Returns the inversion by token count, and the seconds of one of them.
        """
        plan = self.config.plans[into]
        key = (items.content_hash, into)
        if key not in self._inverted:
            targets_ND = self._embed(items)
            tick = self.progress("OTI" if into == "text" else "OVI", len(items.ids))
            start = time.perf_counter()
            found = invert_grid(
                self.encoder,
                targets_ND,
                into=into,
                configs=[replace(plan.config, num_tokens=count) for count in plan.token_counts],
                item_ids=items.ids,
                snapshots=plan.snapshots,
                engine=plan.engine,
                progress=tick,
            )
            seconds = (time.perf_counter() - start) / len(found)
            self._inverted[key] = (dict(zip(plan.token_counts, found, strict=True)), seconds)
        return self._inverted[key]

    def _choose(self, into: Target, val: Dataset | None) -> tuple[int, int, str]:
        """Choose (num_tokens, steps) of one direction by mean average precision on the validation split."""
        plan = self.config.plans[into]
        kind = "image-image" if into == "text" else "text-text"
        task = _selection_task(val, kind) if val is not None else None
        if task is None:
            return plan.token_counts[0], plan.snapshots[-1], "preset"
        route = "oti" if into == "text" else "ovi"
        relevance = relevance_of(task)
        native_QG = cosine_scores(self._embed(task.query), self._embed(task.gallery))
        self._record(_Scored(task, "native", native_QG, relevance))
        best: tuple[float, int, int] | None = None
        for scored in self._curve(task, route, into, relevance):
            values = self._record(scored)["mAP"]
            mean = float(values.nanmean())
            assert scored.steps is not None
            assert scored.num_tokens is not None
            if scored.steps > 0 and (best is None or mean > best[0]):
                best = (mean, scored.num_tokens, scored.steps)
        assert best is not None
        return best[1], best[2], "val"

    def _curve(self, task: Task, route: str, into: Target, relevance: Relevance) -> Iterable[_Scored]:
        """Score every snapshot of every token count; step 0 is the placebo of untrained tokens."""
        plan = self.config.plans[into]
        gallery_GD = self._embed(task.gallery)
        inversions, seconds = self._inversions(task.query, into)
        for num_tokens, inversion in inversions.items():
            self._losses(task, route, inversion, num_tokens)
            for step in plan.snapshots:
                scores_QG = cosine_scores(inversion.snapshots[step].cpu(), gallery_GD)
                name = route if step > 0 else "untrained_tokens"
                yield _Scored(task, name, scores_QG, relevance, "curve", step, num_tokens, seconds)

    def _losses(self, task: Task, route: str, inversion: Inversion, num_tokens: int) -> None:
        """Record how close inversion came to its targets, once for queries that several tasks share."""
        key = (task.query.content_hash, route, num_tokens)
        if key in self._loss_recorded:
            return
        self._loss_recorded.add(key)
        count = len(task.query.ids)
        for step in inversion.snapshots:
            self.rows.append(
                self._base(
                    task,
                    name=f"{route}-loss",
                    protocol=f"{count} targets, mean over them. {ROUTES[route].about}",
                    route=route,
                    metric="loss",
                    unit="1 - cosine",
                    value=float(inversion.losses[:, step].mean()),
                    n_queries=count,
                    n_gallery=0,
                    steps=step,
                    num_tokens=num_tokens,
                    selection="curve",
                )
            )

    def _task(
        self, task: Task, dataset: Dataset, fit: FitEmbeddings, chosen: dict[Target, tuple[int, int, str]]
    ) -> None:
        relevance = relevance_of(task)
        query_QD, gallery_GD = self._embed(task.query), self._embed(task.gallery)
        native_QG = cosine_scores(query_QD, gallery_GD)
        self._record(_Scored(task, "chance", torch.zeros_like(native_QG), relevance))
        native = _Scored(task, "native", native_QG, relevance)
        self._record(native)
        shown = [native]
        applicable = [route for route in self.config.routes if task.kind in ROUTES[route].kinds]
        for route in applicable:
            reason = missing_fit(route, task.kind, dataset.fit)
            if reason is not None:
                self.skipped[f"{task.name}/{route}"] = reason
            elif (into := ROUTES[route].inverts) is not None:
                for scored in self._curve(task, route, into, relevance):
                    if scored.route == route or "untrained_tokens" in self.config.routes:
                        self._record(scored)
                    num_tokens, steps, selection = chosen[into]
                    if (scored.num_tokens, scored.steps) == (num_tokens, steps):
                        reported = replace(scored, selection=selection)
                        self._record(reported)
                        shown.append(reported)
            elif route not in ("chance", "native", "untrained_tokens"):
                on_query, on_gallery = fitted_maps(
                    route, task.kind, fit, seed=self.config.seed, dim=self.encoder.embed_dim
                )
                scores_QG = cosine_scores(on_query(query_QD), on_gallery(gallery_GD))
                self._record(_Scored(task, route, scores_QG, relevance))
        self._pictures(task, shown, relevance)

    def _record(self, scored: _Scored) -> dict[str, Tensor]:
        """Turn scores into rows and per-query values; return the per-query values of every metric."""
        task, relevance = scored.task, scored.relevance
        values = retrieval_metrics(scored.scores_QG, relevance, ks=KS)
        names = ("hit@1", "hit@5") if task.kind == "zero-shot" else tuple(values)
        macro = names[0] if task.kind == "zero-shot" else "mAP"
        for name in names:
            self._row(scored, name, float(values[name].nanmean()), values[name])
        self._row(scored, f"{macro}_macro", macro_mean(values[macro], task.query.labels), values[macro])
        if (
            task.kind in ("image-image", "text-text")
            and scored.selection != "curve"
            and scored.route != "chance"
        ):
            auc = misalignment.same_other_auc(scored.scores_QG, relevance)
            self._row(scored, "same_other_auc", float(auc), values[macro])
        kept = (macro,) if scored.selection == "curve" else tuple(dict.fromkeys((macro, "hit@1")))
        for name in kept:
            self.frames["per_query"].append(self._per_query(scored, name, values[name]))
        return values

    def _per_query(self, scored: _Scored, metric: str, values_Q: Tensor) -> pd.DataFrame:
        task = scored.task
        frame = pd.DataFrame(
            {
                "query_id": task.query.ids,
                "query_class": task.query.labels,
                "value": values_Q.tolist(),
            }
        )
        frame = frame[frame["value"].notna()]
        return frame.assign(
            inversion_seed=self._inversion_seed(scored),
            dataset=task.dataset,
            split=task.split,
            task=task.name,
            route=scored.route,
            steps=pd.array([scored.steps] * len(frame), dtype="Int64"),
            num_tokens=pd.array([scored.num_tokens] * len(frame), dtype="Int64"),
            selection=scored.selection,
            metric=metric,
        )

    def _inversion_config(self, scored: _Scored) -> InversionConfig | None:
        if scored.steps is None:
            return None
        into = ROUTES["oti" if scored.task.query.modality == "image" else "ovi"].inverts
        assert into is not None
        return self.config.plans[into].config

    def _inversion_seed(self, scored: _Scored) -> int | None:
        config = self._inversion_config(scored)
        return None if config is None else config.seed

    def _method(self, scored: _Scored) -> str:
        """Name the optimizer where it is not the paper's."""
        config = self._inversion_config(scored)
        return "; L-BFGS steps" if config is not None and config.method == "lbfgs" else ""

    def _row(self, scored: _Scored, metric: str, value: float, values_Q: Tensor) -> None:
        task = scored.task
        skipped = int(values_Q.isnan().sum())
        if value != value:  # no query had anything to find: there is no number to report
            self.skipped[f"{task.name}/{scored.route}/{metric}"] = (
                f"undefined: {skipped} queries have no relevant item"
            )
            return
        about = ROUTES[scored.route].about
        self.rows.append(
            self._base(
                task,
                protocol=f"{task.protocol} {about}{self._method(scored)}",
                route=scored.route,
                metric=metric,
                value=value,
                n_queries=len(values_Q) - skipped,
                n_gallery=len(task.gallery.ids),
                n_skipped=skipped,
                steps=scored.steps,
                num_tokens=scored.num_tokens,
                selection=scored.selection,
                inversion_seed=self._inversion_seed(scored),
                seconds=scored.seconds,
            )
        )

    def _base(self, task: Task, *, name: str | None = None, **values: Any) -> Row:
        return Row(
            study=self.provenance.study,
            arm=self.provenance.arm,
            seed=self.provenance.seed,
            pairs_seen=self.provenance.pairs_seen,
            config_hash=self.provenance.config_hash,
            encoder=self.encoder.fingerprint,
            versions=versions(),
            commit=commit(),
            dataset=task.dataset,
            dataset_hash=task.dataset_hash,
            split=task.split,
            task=name or task.name,
            **values,
        )

    def _pictures(self, task: Task, shown: list[_Scored], relevance: Relevance) -> None:
        if task.kind not in ("image-image", "text-text"):
            return
        queries = spread_queries(self.config.num_neighbours, relevance)
        common = {"dataset": task.dataset, "split": task.split}
        for scored in shown:
            if scored.selection == "curve":
                continue
            listed = neighbours(task, scored.scores_QG, relevance, queries, route=scored.route)
            if listed:
                self.frames["neighbours"].append(pd.DataFrame(listed).assign(**common))
            other_QG = ~(relevance.relevant_QG | relevance.ignored_QG)
            for kind, mask in (("same class", relevance.relevant_QG), ("other class", other_QG)):
                counts = histogram(scored.scores_QG[mask], kind)
                about = {**common, "task": task.name, "route": scored.route}
                self.frames["histograms"].append(counts.assign(**about))

    def _gap(self, dataset: Dataset) -> None:
        """Measure gap and geometry on aligned pairs; intervals from a delete-a-group jackknife over pairs."""
        pairs = dataset.pairs
        assert pairs is not None
        image_ND, text_ND = self._embed(pairs.image), self._embed(pairs.text)
        task = dataset.tasks[0]
        count = len(image_ND)
        protocol = f"{count} aligned image-text pairs, one text an image; intervals: jackknife over pairs."

        def row(
            metric: str, unit: str, value: float, low: float | None = None, high: float | None = None
        ) -> None:
            self.rows.append(
                self._base(
                    task,
                    name="gap",
                    protocol=protocol,
                    route="native",
                    metric=metric,
                    unit=unit,
                    value=value,
                    low=low,
                    high=high,
                    n_queries=count,
                    n_gallery=count,
                )
            )

        for metric, unit, function in _PAIR_METRICS:
            row(metric, unit, *jackknife(function, image_ND, text_ND))
        separability = gap.linear_separability(image_ND, text_ND, seed=self.config.seed)
        row("linear_separability", "fraction", float(separability))
        row("uniformity_image", "log mean kernel", float(misalignment.uniformity(image_ND)))
        row("uniformity_text", "log mean kernel", float(misalignment.uniformity(text_ND)))
        about = {"dataset": dataset.name, "split": dataset.split}
        self.frames["projection"].append(projection(image_ND, text_ND, pairs.image).assign(**about))
        off_diagonal = ~torch.eye(count, dtype=torch.bool)
        for kind, scores in (
            ("image-image", cosine_scores(image_ND, image_ND)[off_diagonal]),
            ("text-text", cosine_scores(text_ND, text_ND)[off_diagonal]),
            ("image-text, other pairs", cosine_scores(image_ND, text_ND)[off_diagonal]),
            ("image-text, true pairs", cosine_scores(image_ND, text_ND).diagonal()),
        ):
            self.frames["histograms"].append(
                histogram(scores, kind).assign(task="gap", route="native", **about)
            )


_PAIR_METRICS: tuple[tuple[str, str, Callable[[Tensor, Tensor], Tensor]], ...] = (
    ("centroid_distance", "distance", gap.centroid_distance),
    ("mean_pair_cosine", "cosine", gap.mean_pair_cosine),
    ("RMG", "ratio", gap.relative_modality_gap),
    ("alignment", "squared distance", misalignment.alignment),
)


def _selection_task(dataset: Dataset, kind: str) -> Task | None:
    tasks = [task for task in dataset.tasks if task.kind == kind]
    preferred = [task for task in tasks if task.name in SELECTION_TASKS]
    return next(iter([*preferred, *tasks]), None)


def main(
    *,
    encoder: str,
    dataset: str,
    out: Path,
    pretrained: str | None = None,
    split: str = "test",
    routes: tuple[str, ...] = tuple(ROUTES),
    limit: int | None = None,
    schedule: Schedule = "paper",
    steps: int | None = None,
    num_tokens: tuple[int, ...] = (),
    snapshots: tuple[int, ...] = (),
    template: str | None = None,
    seed: int = 0,
    engine: Engine = "auto",
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> int:
    """Measure an encoder on a dataset: retrieval by routes, zero-shot, gap, misalignment.

    Args:
        encoder: an open_clip model name, a checkpoint folder or a run directory.
        dataset: a known dataset, a folder of class folders, shards 'path/{000..003}.tar', or a CSV file.
        out: folder for rows.jsonl and the tables that pictures are drawn from.
        pretrained: with a model name: a tag, a weights file, or 'random'.
        split: split to report; inversion settings are chosen on split val where there is one.
        routes: how query and gallery are made.
        limit: keep so many concepts (emoji) or items of each side, spread over the classes.
        schedule: the paper's, or fast, which reaches its loss in far fewer steps (docs/inversion.md).
        steps: inversion steps, of both directions; default: the schedule's for this encoder.
        num_tokens: pseudo-token counts to compare; default: the paper's for this encoder.
        snapshots: steps at which inverted features are scored.
        template: prompt of OTI; default: the dataset's.
        seed: of inversion noise and random controls.
        engine: lean, tower, or auto (lean where the towers allow it).
        device: auto, cpu, cuda, ...
        precision: fp32, bf16 or fp64.
        threads: CPU threads; default: torch's choice.
    """
    for route in routes:
        check_known(route, ROUTES, "route")
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, not {steps}")
    if threads is not None:
        torch.set_num_threads(threads)
    test = load_dataset(dataset, split=split, limit=limit)
    val = _validation(dataset, split, limit)
    if not test.tasks:
        raise InputError(
            f"dataset {dataset!r}, split {split!r}: no task can be made of it (no labels, no captions)"
        )
    model = load_encoder(encoder, pretrained, device, precision)
    plans: dict[Target, InversionPlan] = {}
    for into in ("text", "image"):
        if any(ROUTES[route].inverts == into for route in routes):
            config = preset(model.name, into, schedule)
            config = replace(config, seed=seed, template=template or test.default_template)
            config = replace(config, steps=config.steps if steps is None else steps)
            counts = num_tokens or (config.num_tokens,)
            looked_at = snapshots or _default_snapshots(config.steps)
            plans[into] = InversionPlan(
                config=config, token_counts=counts, snapshots=looked_at, engine=engine
            )
    config_ = EvaluationConfig(routes=routes, plans=plans, seed=seed)
    about = {"encoder": encoder, "pretrained": pretrained, "dataset": dataset, "split": split, "limit": limit}
    settings = {**about, "fingerprint": model.fingerprint, "evaluation": asdict(config_)}
    _claim(out, settings)
    provenance = Provenance(study="evaluate", arm=model.name, config_hash=config_hash(settings))
    with ItemProgress() as progress:
        result = evaluate(
            model,
            test,
            val,
            config=config_,
            provenance=provenance,
            cache=out / "features",
            progress=progress.start,
        )
    result.write(out)
    _print(result, out)
    return 0


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Mark ``out`` as the folder of this evaluation, or go on in it.

    Raises:
        InputError: it holds another evaluation (what differs is listed) or something else.
    """
    path = out / "evaluation.json"
    given = json.loads(json.dumps(settings))
    if path.exists():
        check_same(out, read_json(path), given)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds other things than an evaluation; choose another --out")
    else:
        write_json(path, given)


def _validation(dataset: str, split: str, limit: int | None) -> Dataset | None:
    """Load split val to choose settings on, if the dataset has one and it is not the split reported."""
    if split == "val":
        return None
    try:
        return load_dataset(dataset, split="val", limit=limit)
    except MissingSplit:
        return None


def _default_snapshots(steps: int) -> tuple[int, ...]:
    """Steps spread as the gain changes: early ones dense."""
    return tuple(sorted({0, *(round(steps * share) for share in (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1))}))


def _print(result: Evaluation, out: Path) -> None:
    table = Table(
        title="mAP (zero-shot: top-1) in %, mean over queries; setting: tokens x steps",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for column in ("task", "route", "setting"):
        table.add_column(column, no_wrap=True)
    for column in ("value", "queries"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in result.rows:
        headline = "hit@1" if row.task.startswith("zero-shot") else "mAP"
        if row.metric == headline and row.selection != "curve" and row.split != "val":
            setting = "" if row.steps is None else f"{row.num_tokens} x {row.steps} ({row.selection})"
            queries = str(row.n_queries) + (f" (+{row.n_skipped} skipped)" if row.n_skipped else "")
            table.add_row(row.task, row.route, setting, f"{100 * row.value:.2f}", queries)
    console = Console(file=sys.stdout)
    console.print(table)
    for name, reason in sorted(result.skipped.items()):
        console.print(f"not measured: {name}: {reason}", markup=False, highlight=False)
    print(f"rows: {out / 'rows.jsonl'}")


if __name__ == "__main__":
    sys.exit(run_command(main))
