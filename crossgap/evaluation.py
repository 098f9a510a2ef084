"""Measure an encoder, or features made elsewhere, on the tasks of a dataset by routes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor

from crossgap.datasets.probes import probe_tasks
from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.datasets.tasks import Dataset, Extra, FitData, Items, Pairs, Task
from crossgap.embeddings import embed, feature_path
from crossgap.encoders.projectors import linear_projectors
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError, check_known, check_seed
from crossgap.files import read_json, read_lines, write_json
from crossgap.inversion.config import Engine, InversionConfig, Method, Target
from crossgap.inversion.kept import Batch, Inverted
from crossgap.inversion.loop import Inverter
from crossgap.inversion.words import AXES, write_axes
from crossgap.metrics import misalignment
from crossgap.metrics.factors import factor_metrics, unmeasured
from crossgap.metrics.landmark import capped_precision, trapezoidal_ap
from crossgap.metrics.ndcg import ndcg
from crossgap.metrics.pair_metrics import FEWEST, pair_metrics
from crossgap.metrics.relevance import Judgement, Relevance, judge
from crossgap.metrics.retrieval import macro_mean
from crossgap.metrics.similarity import cosine_scores
from crossgap.metrics.streaming import streamed_metrics
from crossgap.pictures import histogram, neighbours, projection, spread_queries
from crossgap.posthoc import published_bands, shuffled_targets
from crossgap.probes.class_mean import class_mean_accuracy, draw_shots
from crossgap.probes.linear_probe import PRESET_STRENGTH, STRENGTHS, fit_linear_probe, linear_probe_accuracy
from crossgap.probes.shots import DRAWS
from crossgap.provenance import Provenance, commit, versions
from crossgap.records import TABLES, Row, read_table, row_frame, write_rows, write_table
from crossgap.routes import (
    INTRA,
    ROUTES,
    Parts,
    Strength,
    direction,
    fit_side,
    missing_part,
    needed_parts,
    side_maps,
    sides,
)
from crossgap.vocabulary import PROBES, Kind, Probe, leading_place

KS = (1, 5, 10)
# Maps whose similarities and neighbours are kept beside those of native and inverted features.
_PICTURED_MAPS = ("centred",)
# Scores held at once for what needs all pairs of a task: histograms and the separation of classes.
_DENSE = 1 << 26


class Progress(Protocol):
    """Open a loop over a number of items; what it returns counts them."""

    def __call__(self, what: str, count: int) -> Callable[[int], None]: ...


@dataclass(frozen=True, kw_only=True)
class InversionPlan:
    """Inversions of one direction: settings, what to compare, the steps to look at.

    Every combination of the axes is inverted, in one batch for each template and method; ``snapshots`` cost
    nothing. An axis that is () has the value of ``config`` alone. ``lbfgs`` has no weight decay: it is
    combined with weight decay 0 instead of ``weight_decays``.

    Args:
        config: the settings that are the same everywhere; ``num_tokens`` is not looked at.
        token_counts: pseudo-tokens to compare.
        snapshots: steps to look at; 0 is the untrained start.
        learning_rates, weight_decays, init_stds, templates, methods: values to compare, as of ``config``.
        within: batches that hold settings of this plan among others; what they hold is taken from there,
            equal but for rounding, and the others are inverted for themselves.

    Raises:
        InputError: no token count or snapshot, a value that stands twice or that no inversion takes.
    """

    config: InversionConfig
    token_counts: tuple[int, ...]
    snapshots: tuple[int, ...]
    engine: Engine = "auto"
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()
    init_stds: tuple[float, ...] = ()
    templates: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()
    within: tuple[Batch, ...] = ()

    def __post_init__(self) -> None:
        if not self.token_counts or not any(self.snapshots):
            raise InputError("an inversion plan needs at least one token count and one snapshot step above 0")
        outside = [step for step in self.snapshots if not 0 <= step <= self.config.steps]
        if outside:
            raise InputError(f"snapshot steps {outside} lie outside 0..{self.config.steps} (steps)")
        named = {"token counts": self.token_counts, "snapshots": self.snapshots}
        for name, values in (named | {f"values of {AXES[axis]}": self._given(axis) for axis in AXES}).items():
            if len(set(values)) != len(values):
                raise InputError(f"{name} repeat themselves: {values}")
        if self.weight_decays and "adamw" not in (self.methods or (self.config.method,)):
            raise InputError("lbfgs has no weight decay: leave weight_decays out")
        assert self.configs  # each setting checks itself

    @property
    def configs(self) -> tuple[InversionConfig, ...]:
        """List every setting that is inverted: the outermost axis is the method, the innermost the tokens.

        Raises:
            InputError: a value that no inversion takes.
        """
        found = []
        for values in itertools.product(*(self._given(axis) or (None,) for axis in AXES), self.token_counts):
            named = zip((*AXES, "num_tokens"), values, strict=True)
            changes: dict[str, Any] = {name: value for name, value in named if value is not None}
            if changes.get("method", self.config.method) == "lbfgs":
                changes["weight_decay"] = 0.0
            found.append(replace(self.config, **changes))
        return tuple(dict.fromkeys(found))

    @property
    def batches(self) -> tuple[tuple[InversionConfig, ...], ...]:
        """Put together the settings that can share a batch: those of one template and method."""
        return _alike(self.configs)

    def made_in(self, into: Target) -> list[tuple[Batch, dict[InversionConfig, int]]]:
        """List the batches to invert, each with the places of this plan's settings in it.

        Settings of one template and method that no batch of ``within`` holds share one.
        """
        places: list[tuple[Batch, dict[InversionConfig, int]]] = []
        left = list(self.configs)
        for batch in self.within:
            held = {
                config: place
                for config in left
                if (place := batch.place(into, config, self.snapshots, self.engine)) is not None
            }
            if held:
                places.append((batch, held))
                left = [config for config in left if config not in held]
        for group in _alike(left):
            batch = Batch(into=into, configs=group, snapshots=self.snapshots, engine=self.engine)
            places.append((batch, {config: place for place, config in enumerate(group)}))
        return places

    def setting(self, config: InversionConfig) -> str:
        """Say in words what tells one of :attr:`configs` from the others beyond tokens and steps."""
        varied = [axis for axis in AXES if len(self._given(axis)) > 1]
        return write_axes({axis: getattr(config, axis) for axis in varied})

    def _given(self, axis: str) -> tuple[Any, ...]:
        return {
            "method": self.methods,
            "template": self.templates,
            "learning_rate": self.learning_rates,
            "weight_decay": self.weight_decays,
            "init_std": self.init_stds,
        }[axis]


def _alike(configs: Iterable[InversionConfig]) -> tuple[tuple[InversionConfig, ...], ...]:
    groups: dict[tuple[str, str], list[InversionConfig]] = {}
    for config in configs:
        groups.setdefault((config.template, config.method), []).append(config)
    return tuple(tuple(group) for group in groups.values())


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to measure.

    Args:
        routes: names from :data:`crossgap.routes.ROUTES`; ``chance`` and ``native`` are always measured.
        plans: modality inverted into -> its plan; with the route ``untrained_tokens`` each looks at step 0.
        seed: of random subspaces and rotations, of the split that linear separability is tested on, of the
            images that class means are made of.
        num_neighbours: queries shown with their neighbours.
        probes: classification by labelled training images, where there are any; a linear probe takes a fit
            for each route and penalty.
    """

    routes: tuple[str, ...] = tuple(ROUTES)
    plans: dict[Target, InversionPlan] = field(default_factory=dict)
    seed: int = 0
    num_neighbours: int = 8
    probes: tuple[Probe, ...] = ("class-mean",)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for route in self.routes:
            check_known(route, ROUTES, "route")
        for probe in self.probes:
            check_known(probe, PROBES, "probe")
        if "untrained_tokens" in self.routes:  # which is step 0 of an inversion
            plans = {
                into: plan if 0 in plan.snapshots else replace(plan, snapshots=(0, *plan.snapshots))
                for into, plan in self.plans.items()
            }
            object.__setattr__(self, "plans", plans)


@dataclass
class Evaluation:
    """Rows, the tables that pictures need, and what could not be measured with the reason.

    ``reused`` counts collections of items by what was done with them: ``encoded`` and ``inverted`` anew (one
    for each batch of settings), ``features_read`` and ``inversions_read`` from the cache.
    """

    rows: list[Row]
    tables: dict[str, pd.DataFrame]
    skipped: dict[str, str]
    reused: dict[str, int] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a frame (docs/rows.md)."""
        return row_frame(self.rows)

    def write(self, out: Path) -> None:
        """Write the tables, then ``rows.jsonl``; each file atomically."""
        for name, frame in self.tables.items():
            write_table(out, name, frame)
        write_rows(out / "rows.jsonl", self.rows)

    def keep(self, folder: Path, dataset_hash: str, settings_hash: str) -> None:
        """Keep the evaluation of one dataset, so that :meth:`read` finds it; what says so is written last."""
        (folder / "result.json").unlink(missing_ok=True)  # of fewer settings, whose tables are replaced
        self.write(folder)
        about = {"dataset_hash": dataset_hash, "settings_hash": settings_hash, "skipped": self.skipped}
        write_json(folder / "result.json", about)

    @classmethod
    def read(cls, folder: Path, dataset_hash: str | None, settings_hash: str) -> Evaluation | None:
        """Return what :meth:`keep` wrote; None if it did not, or of other data or settings."""
        if not (folder / "result.json").exists():
            return None
        result = read_json(folder / "result.json")
        if dataset_hash not in (None, result["dataset_hash"]) or result.get("settings_hash") != settings_hash:
            return None
        tables = {name: read_table([folder], name) for name in TABLES}
        rows = [Row(**line) for line in read_lines(folder / "rows.jsonl")]
        return cls(rows, tables, result["skipped"])


def joined(parts: Iterable[Evaluation]) -> Evaluation:
    """Put the evaluations of several datasets together."""
    parts = list(parts)
    tables = {
        name: pd.concat([part.tables[name] for part in parts], ignore_index=True) for name in parts[0].tables
    }
    skipped: dict[str, str] = {}
    for part in parts:
        of = f"{part.rows[0].dataset}: " if len(parts) > 1 and part.rows else ""
        skipped |= {f"{of}{name}": reason for name, reason in part.skipped.items()}
    counts = dict.fromkeys(name for part in parts for name in part.reused)
    reused = {name: sum(part.reused.get(name, 0) for part in parts) for name in counts}
    return Evaluation([row for part in parts for row in part.rows], tables, skipped, reused)


class _Setting(NamedTuple):
    """How an inversion is made and where it stops, and how that was chosen."""

    config: InversionConfig
    steps: int
    selection: str


@dataclass(frozen=True)
class _Scored:
    """A task's two sides as one route makes them."""

    task: Task
    route: str
    query_QD: Tensor
    gallery_GD: Tensor
    relevance: Judgement
    selection: str = "none"
    steps: int | None = None
    num_tokens: int | None = None
    seconds: float | None = None
    setting: str = ""
    note: str = ""
    inversion_seed: int | None = None


def evaluate(
    source: Encoder | FeatureTable,
    test: Dataset,
    val: Dataset | None,
    *,
    config: EvaluationConfig,
    provenance: Provenance,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure ``source`` on the tasks of ``test``, choosing settings on ``val``.

    ``source`` is an encoder, or features made elsewhere, which cannot be inverted. Without ``val`` the last
    snapshot of a plan's first setting and the published strengths are reported, with selection ``preset``.

    In ``cache`` features and inversions are kept by what they depend on: a second call with the same model
    and plan encodes and inverts nothing and gives the same rows, the seconds those of the first.
    """
    return _Run(source, test, val, config, provenance, cache, progress).measure()


class _Run:
    """One evaluation under way: collects rows and tables while it walks the tasks."""

    def __init__(
        self,
        source: Encoder | FeatureTable,
        test: Dataset,
        val: Dataset | None,
        config: EvaluationConfig,
        provenance: Provenance,
        cache: Path | None,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._test = test
        self._val = val
        self._config = config
        self._provenance = provenance
        self._cache = cache
        self._progress = progress or (lambda _what, _count: lambda _done: None)
        self.rows: list[Row] = []
        self.frames: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        self.skipped: dict[str, str] = {}
        self._embedded: dict[str, Tensor] = {}
        self._judged: dict[tuple[str, str], Judgement] = {}
        self._inverters: dict[Batch, Inverter] = {}
        self._inverted: dict[tuple[str, Target], dict[InversionConfig, Inverted]] = {}
        self._once: dict[tuple[str, Target, str], Inverted] = {}
        self._done = dict.fromkeys(("encoded", "features_read", "inverted", "inversions_read"), 0)
        self._loss_recorded: set[tuple[str, str, InversionConfig]] = set()
        self._settings: dict[Target, _Setting] = {}
        self._strengths: dict[tuple[str, Kind], tuple[Strength, str]] = {}
        self._draws: dict[str, list[Tensor]] = {}
        self._tasks = (*test.tasks, *self._probe_tasks(test))
        self._kinds = {task.kind for task in self._tasks}
        self._parts = self._fit_parts(test.fit, needed_parts(config.routes, self._kinds))

    def measure(self) -> Evaluation:
        test, kinds = self._test, self._kinds
        plans = {} if isinstance(self._source, FeatureTable) else self._config.plans
        self._settings = {into: self._choose(into) for into in plans if self._inverts(into, kinds)}
        for route in self._config.routes:
            if not kinds & set(ROUTES[route].kinds):
                self.skipped[route] = f"needs a task of kind {' or '.join(ROUTES[route].kinds)}"
        measured = self._progress("measure tasks", len(self._tasks) + (test.pairs is not None))
        for task in self._tasks:
            self._task(task)
            measured(1)
        if test.pairs is not None:
            self._gap(test, test.pairs)
            if test.factors:
                self._factors(test, test.pairs)
            measured(1)
        tables = {name: self._table(name, frames) for name, frames in self.frames.items()}
        return Evaluation(self.rows, tables, self.skipped, self._done)

    def _table(self, name: str, frames: list[pd.DataFrame]) -> pd.DataFrame:
        if not frames:
            return pd.DataFrame(columns=list(TABLES[name]))
        known = self._provenance
        return pd.concat(frames, ignore_index=True).assign(study=known.study, arm=known.arm, seed=known.seed)

    # what is measured: features of items, of inverted items, and what maps are fitted on

    def _embed(self, items: Items) -> Tensor:
        key = items.content_hash
        if key not in self._embedded:
            if isinstance(self._source, FeatureTable):
                self._embedded[key] = self._source.embed(items)
            else:
                cache = self._cache
                known = cache is not None and feature_path(self._source, items, cache).exists()
                self._done["features_read" if known else "encoded"] += 1
                tick = self._progress(f"encode {items.modality}s", len(items))
                made = embed(self._source, items, cache=self._cache, progress=tick)
                self._embedded[key] = made.join(items.ids)
        return self._embedded[key]

    def _judge(self, task: Task) -> Judgement:
        """Number the labels of a task once, however many routes it is measured by."""
        key = (task.split, task.name)
        if key not in self._judged:
            self._judged[key] = judge(task)
        return self._judged[key]

    def _fit_parts(self, fit: FitData | None, wanted: set[str]) -> Parts:
        def part(items: Items | None, name: str) -> Tensor | None:
            return None if items is None or name not in wanted else self._embed(items)

        pairs = fit.pairs if fit is not None else None
        return Parts(
            split=fit.split if fit else "none",
            images=part(fit.images, "images") if fit else None,
            texts=part(fit.texts, "texts") if fit else None,
            class_prompts=part(fit.class_prompts, "class_prompts") if fit else None,
            prompts_of=fit.prompts_of if fit else "",
            paired_images=part(pairs.image, "pairs") if pairs else None,
            paired_texts=part(pairs.text, "pairs") if pairs else None,
            projectors=linear_projectors(self._source),
            bands=published_bands(self._source.name),
            dim=self._source.embed_dim,
            seed=self._config.seed,
        )

    def _inverts(self, into: Target, kinds: set[Kind]) -> bool:
        return any(
            direction(route, kind) == into
            for route in self._config.routes
            for kind in kinds & set(ROUTES[route].kinds)
        )

    def _inversions(self, items: Items, into: Target) -> dict[InversionConfig, Inverted]:
        """Invert the items of a side once, however many tasks share it, under all settings of the plan."""
        plan = self._config.plans[into]
        key = (items.content_hash, into)
        if key not in self._inverted:
            made: dict[InversionConfig, Inverted] = {}
            for batch, places in plan.made_in(into):
                found = self._invert(items, self._embed(items), batch, _DIRECTIONS[into])
                made |= {config: found[place].at(plan.snapshots) for config, place in places.items()}
            self._inverted[key] = {config: made[config] for config in plan.configs}
        return self._inverted[key]

    def _inverted_once(
        self, items: Items, targets_ND: Tensor, into: Target, what: str
    ) -> tuple[Tensor, float]:
        """Invert towards given targets at the chosen setting alone, once for items that several tasks share.

        Returns features and seconds.
        """
        setting, plan, key = self._settings[into], self._config.plans[into], (items.content_hash, into, what)
        if key not in self._once:
            configs, steps = (replace(setting.config, steps=setting.steps),), (setting.steps,)
            batch = Batch(into=into, configs=configs, snapshots=steps, engine=plan.engine)
            (self._once[key],) = self._invert(items, targets_ND, batch, what)
        return self._once[key].snapshots[setting.steps], self._once[key].seconds

    def _invert(self, items: Items, targets_ND: Tensor, batch: Batch, what: str) -> list[Inverted]:
        """Invert under every setting of a batch, or read what was kept of the same."""
        assert not isinstance(self._source, FeatureTable)
        path = None
        if self._cache is not None:
            path = batch.path(self._cache, self._source, items, targets_ND)
            kept = batch.load(path)
            if kept is not None:
                self._done["inversions_read"] += 1
                return kept
        tick = self._progress(what, len(items))
        start = time.perf_counter()
        if batch not in self._inverters:
            self._inverters[batch] = Inverter(
                self._source, into=batch.into, configs=batch.configs, engine=batch.engine
            )
        inversions = self._inverters[batch].run(
            targets_ND, item_ids=items.ids, snapshots=batch.snapshots, progress=tick
        )
        seconds = (time.perf_counter() - start) / len(inversions)
        found = [
            Inverted(
                {step: features_ND.cpu() for step, features_ND in one.snapshots.items()},
                {step: float(one.losses[:, step].mean()) for step in one.snapshots},
                seconds,
            )
            for one in inversions
        ]
        self._done["inverted"] += 1
        if path is not None:
            batch.save(path, found)
        return found

    # choices on the validation split

    def _choose(self, into: Target) -> _Setting:
        """Choose the setting of one direction by mean average precision on the validation split."""
        plan = self._config.plans[into]
        task = _selection_task(self._val, "image-image" if into == "text" else "text-text")
        choices = len(plan.configs) * sum(step > 0 for step in plan.snapshots)
        if task is None or choices == 1:
            return _Setting(plan.configs[0], plan.snapshots[-1], "preset")
        self._record(self._native(task))
        best: tuple[float, _Setting] | None = None
        for config, step, scored in self._curve(task, "oti" if into == "text" else "ovi"):
            mean = float(self._record(scored)["mAP"].nanmean())
            if step > 0 and (best is None or mean > best[0]):
                best = (mean, _Setting(config, step, "val"))
        assert best is not None
        return best[1]

    def _strength(self, route: str, kind: Kind) -> tuple[Strength, str]:
        """Choose the strength of a map for tasks of one kind, and say how it was chosen.

        Classification by labelled images takes the maps of retrieval among images.
        """
        chosen_for: Kind = "image-image" if kind in PROBES else kind
        key = (route, chosen_for)
        if key not in self._strengths:
            self._strengths[key] = self._find_strength(route, chosen_for)
        return self._strengths[key]

    def _find_strength(self, route: str, kind: Kind) -> tuple[Strength, str]:
        fitted, parts = ROUTES[route].map, self._parts
        assert fitted is not None
        leader = fitted.follows
        if leader is not None and leader in self._config.routes and missing_part(leader, kind, parts) is None:
            return self._strength(leader, kind)
        modality = fit_side(route, kind)
        candidates = fitted.candidates(parts, modality)
        task = _selection_task(self._val, kind)
        if not candidates or task is None:
            preset = fitted.preset(parts, modality)
            return preset, "none" if preset is None else "preset"
        best: tuple[float, Strength] | None = None
        impossible: InputError | None = None
        for strength in candidates:
            try:
                scored = self._mapped(task, route, strength, "curve")
            except InputError as error:  # more components than there are, no shared direction, ...
                impossible = error
                continue
            values_Q = _metrics(scored)["mAP"]
            mean = float(values_Q.nanmean())
            self._row(scored, "mAP", mean, values_Q)
            if best is None or mean > best[0]:
                best = (mean, strength)
        if best is None:
            assert impossible is not None
            raise impossible
        return best[1], "val"

    # routes

    def _native(self, task: Task) -> _Scored:
        return _Scored(task, "native", self._embed(task.query), self._embed(task.gallery), self._judge(task))

    def _curve(self, task: Task, route: str) -> Iterable[tuple[InversionConfig, int, _Scored]]:
        """Give every snapshot of every setting; step 0 is the placebo of untrained tokens."""
        into = direction(route, task.kind)
        assert into is not None
        plan, relevance = self._config.plans[into], self._judge(task)
        query_first = sides(task.kind)[0] != into
        inverted_side, other_side = (task.query, task.gallery) if query_first else (task.gallery, task.query)
        other_ND = self._embed(other_side)
        for config, inverted in self._inversions(inverted_side, into).items():
            setting = plan.setting(config)
            self._losses(task, inverted_side, route, inverted, config, setting)
            for step in plan.snapshots:
                made_ND = inverted.snapshots[step]
                scored = _Scored(
                    task,
                    route if step > 0 else "untrained_tokens",
                    made_ND if query_first else other_ND,
                    other_ND if query_first else made_ND,
                    relevance,
                    selection="curve",
                    steps=step,
                    num_tokens=config.num_tokens,
                    seconds=inverted.seconds,
                    setting=setting,
                    note=_method(config),
                    inversion_seed=config.seed,
                )
                yield config, step, scored

    def _at_setting(self, task: Task, route: str) -> _Scored:
        """Make the routes that take the setting chosen for the inversion of the query."""
        into = direction(route, task.kind)
        assert into is not None
        setting, plan = self._settings[into], self._config.plans[into]
        query_QD, gallery_GD = self._embed(task.query), self._embed(task.gallery)
        if ROUTES[route].inversion == "shuffled":
            others_Q = shuffled_targets(task.query.ids, seed=self._config.seed)
            query_QD, seconds = self._inverted_once(task.query, query_QD[others_Q], into, "shuffled targets")
        else:
            inverted = self._inversions(task.query, into)[setting.config]
            query_QD, seconds = inverted.snapshots[setting.steps], inverted.seconds
            what = f"{_DIRECTIONS[into]} of the gallery"
            gallery_GD, more = self._inverted_once(task.gallery, gallery_GD, into, what)
            seconds += more
        return _Scored(
            task,
            route,
            query_QD,
            gallery_GD,
            self._judge(task),
            selection=setting.selection,
            steps=setting.steps,
            num_tokens=setting.config.num_tokens,
            seconds=seconds,
            setting=plan.setting(setting.config),
            note=_method(setting.config),
            inversion_seed=setting.config.seed,
        )

    def _mapped(self, task: Task, route: str, strength: Strength, selection: str) -> _Scored:
        fitted, parts = ROUTES[route].map, self._parts
        assert fitted is not None
        on_query, on_gallery = side_maps(route, task.kind, parts, strength)
        native = self._native(task)
        origins = dict.fromkeys(made.fitted_on for made in (on_query, on_gallery) if made is not None)
        return replace(
            native,
            route=route,
            query_QD=native.query_QD if on_query is None else on_query(native.query_QD),
            gallery_GD=native.gallery_GD if on_gallery is None else on_gallery(native.gallery_GD),
            selection=selection,
            setting=fitted.describe(strength),
            note=f"; fitted on {', '.join(origins)}",
        )

    def _task(self, task: Task) -> None:
        native = self._native(task)
        if not self._findable(native):
            return
        even_Q1, even_G1 = torch.ones(len(task.query), 1), torch.ones(len(task.gallery), 1)  # all items tie
        self._record(replace(native, route="chance", query_QD=even_Q1, gallery_GD=even_G1))
        usable_Q = ~self._record(native)[task.headline].isnan()
        shown = [native]
        for route in self._config.routes:
            if task.kind not in ROUTES[route].kinds or route in ("chance", "native", "untrained_tokens"):
                continue
            try:
                shown += self._route(task, route)
            except InputError as error:  # a route that these data or this model do not allow
                self.skipped[f"{task.name}/{route}"] = str(error)
        self._pictures(task, shown, usable_Q)

    def _findable(self, native: _Scored) -> bool:
        """Tell whether any query of a task has something to find; a task without is left out and named."""
        count = len(native.query_QD)
        blocks = (native.relevance.rows(slice(start, start + 64)) for start in range(0, count, 64))
        if any(bool(block.relevant_QG.any()) for block in blocks):
            return True
        self.skipped[native.task.name] = f"none of {count} queries has a relevant item in the gallery"
        return False

    def _route(self, task: Task, route: str) -> list[_Scored]:
        """Measure a task by one route; return what pictures are made of."""
        into = direction(route, task.kind)
        if into is None:
            return self._map_route(task, route)
        if isinstance(self._source, FeatureTable):
            raise InputError("features from a file have no towers to invert into")
        if into not in self._settings:
            raise InputError(f"no plan says how to invert into {into}")
        if ROUTES[route].inversion != "curve":
            scored = self._at_setting(task, route)
            self._record(scored)
            return []
        wanted = self._settings[into]
        placebo = "untrained_tokens" in self._config.routes and sides(task.kind)[0] != into
        shown = []
        for config, step, scored in self._curve(task, route):
            if scored.route == route or placebo:
                self._record(scored)
            if (config, step) == (wanted.config, wanted.steps):
                shown.append(replace(scored, selection=wanted.selection))
                self._record(shown[-1])
        return shown

    def _map_route(self, task: Task, route: str) -> list[_Scored]:
        reason = missing_part(route, task.kind, self._parts)
        if reason is not None:
            raise InputError(reason)
        scored = self._mapped(task, route, *self._strength(route, task.kind))
        self._record(scored)
        return [scored] if route in _PICTURED_MAPS else []

    # rows and tables

    def _record(self, scored: _Scored) -> dict[str, Tensor]:
        """Turn two sides into rows and per-query values; return the per-query values of every metric."""
        task = scored.task
        if task.kind in PROBES:
            scored, values = self._classified(scored)
        else:
            values = _metrics(scored)
        names = ("hit@1", "hit@5") if task.kind == "zero-shot" else tuple(values)
        macro = task.headline
        for name in names:
            self._row(scored, name, float(values[name].nanmean()), values[name])
        self._row(scored, f"{macro}_macro", macro_mean(values[macro], task.query.labels), values[macro])
        reported = scored.selection != "curve"
        if reported and task.kind in INTRA and scored.route != "chance":
            self._separation(scored, values[macro])
        kept = tuple(name for name in (macro, "mAP", "hit@1") if name in names) if reported else (macro,)
        kept = tuple(dict.fromkeys(kept))
        for name in kept:
            self.frames["per_query"].append(self._per_query(scored, name, values[name]))
        return values

    # classification by labelled training images

    def _probe_tasks(self, test: Dataset) -> tuple[Task, ...]:
        try:
            return probe_tasks(test, self._config.probes)
        except InputError as error:  # one class, or no class in common
            self.skipped |= dict.fromkeys(self._config.probes, str(error))
            return ()

    def _classified(self, scored: _Scored) -> tuple[_Scored, dict[str, Tensor]]:
        """Classify the queries of a task; say with which penalty where it is a linear probe."""
        task = scored.task
        labels, support_labels = task.query.labels, task.gallery.labels
        draws = self._drawn(task)
        if task.kind == "class-mean" or scored.route == "chance":
            hits_Q = class_mean_accuracy(
                scored.query_QD, scored.gallery_GD, labels=labels, support_labels=support_labels, draws=draws
            )
            return scored, {"hit@1": hits_Q}
        (rows,) = draws
        support_ND, kept_labels = scored.gallery_GD[rows], [support_labels[row] for row in rows.tolist()]
        chosen_on = self._on_val(scored)
        best: tuple[float, _Scored, Tensor] | None = None
        for strength in STRENGTHS if chosen_on is not None else (PRESET_STRENGTH,):
            probe = fit_linear_probe(support_ND, kept_labels, strength=strength)
            setting = ", ".join(part for part in (scored.setting, f"C {strength:g}") if part)
            note = scored.note + ("" if probe.converged else "; its solver did not converge")
            made = replace(scored, setting=setting, note=note, selection="preset")
            accuracy = 0.0
            if chosen_on is not None:
                made = replace(made, selection="val")
                val_labels = chosen_on.task.query.labels
                values_Q = linear_probe_accuracy(probe, chosen_on.query_QD, labels=val_labels)
                accuracy = float(values_Q.nanmean())
                curve = replace(chosen_on, setting=setting, note=note, selection="curve")
                self._row(curve, "hit@1", accuracy, values_Q)
            if best is None or accuracy > best[0]:  # of equals the strongest penalty
                best = accuracy, made, linear_probe_accuracy(probe, scored.query_QD, labels=labels)
        assert best is not None
        return best[1], {"hit@1": best[2]}

    def _on_val(self, scored: _Scored) -> _Scored | None:
        """Make the validation images by the same route, if any is of a class that is known."""
        try:
            tasks = probe_tasks(self._val, ("linear-probe",)) if self._val is not None else ()
        except InputError:  # no class in common: the preset is reported, and says so
            return None
        if not tasks:
            return None
        if scored.route == "native":
            return self._native(tasks[0])
        return self._mapped(tasks[0], scored.route, *self._strength(scored.route, scored.task.kind))

    def _drawn(self, task: Task) -> list[Tensor]:
        """Draw the training images that a classifier is made of, once for all routes."""
        if task.name not in self._draws:
            items, shots = task.gallery, task.shots
            self._draws[task.name] = (
                [torch.arange(len(items))]
                if shots is None
                else [
                    draw_shots(items.ids, items.labels, shots=shots, seed=self._config.seed, draw=draw)
                    for draw in range(DRAWS if task.kind == "class-mean" else 1)
                ]
            )
        return self._draws[task.name]

    def _separation(self, scored: _Scored, values_Q: Tensor) -> None:
        """Measure how far same-class scores lie among the others, over all pairs of a task."""
        if len(scored.query_QD) * len(scored.gallery_GD) > _DENSE:
            self.skipped[f"{scored.task.name}/same_other_auc"] = (
                f"needs all {len(scored.query_QD)} x {len(scored.gallery_GD)} scores at once"
            )
            return
        scores_QG = cosine_scores(scored.query_QD, scored.gallery_GD)
        relevance = scored.relevance.rows(slice(0, len(scores_QG)))
        try:
            auc = misalignment.same_other_auc(scores_QG, relevance)
        except InputError as error:  # no pairs of both kinds
            self.skipped[f"{scored.task.name}/same_other_auc"] = str(error)
            return
        overlap = misalignment.same_other_overlap(scores_QG, relevance)
        self._row(scored, "same_other_auc", float(auc), values_Q)
        self._row(scored, "same_other_overlap", float(overlap.shared), values_Q)
        self._row(scored, "same_other_iou", float(overlap.iou), values_Q, unit="ratio")
        self._row(scored, "d_prime", float(overlap.d_prime), values_Q, unit="standard deviations")

    def _per_query(self, scored: _Scored, metric: str, values_Q: Tensor) -> pd.DataFrame:
        task = scored.task
        frame = pd.DataFrame(
            {"query_id": task.query.ids, "query_class": task.query.labels, "value": values_Q.tolist()}
        )
        frame = frame[frame["value"].notna()]
        return frame.assign(
            inversion_seed=scored.inversion_seed,
            dataset=task.dataset,
            split=task.split,
            task=task.name,
            route=scored.route,
            steps=pd.array([scored.steps] * len(frame), dtype="Int64"),
            num_tokens=pd.array([scored.num_tokens] * len(frame), dtype="Int64"),
            setting=scored.setting,
            selection=scored.selection,
            metric=metric,
        )

    def _losses(
        self,
        task: Task,
        items: Items,
        route: str,
        inverted: Inverted,
        config: InversionConfig,
        setting: str,
    ) -> None:
        """Record how close inversion came to its targets, once for items that several tasks share."""
        key = (items.content_hash, route, config)
        if key in self._loss_recorded:
            return
        self._loss_recorded.add(key)
        for step, loss in inverted.losses.items():
            self.rows.append(
                self._base(
                    task,
                    name=f"{route}-loss",
                    protocol=f"{len(items)} targets, mean over them. {ROUTES[route].about}",
                    route=route,
                    metric="loss",
                    unit="1 - cosine",
                    value=loss,
                    n_queries=len(items),
                    n_gallery=0,
                    steps=step,
                    num_tokens=config.num_tokens,
                    setting=setting,
                    selection="curve",
                )
            )

    def _row(
        self, scored: _Scored, metric: str, value: float, values_Q: Tensor, *, unit: str = "fraction"
    ) -> None:
        task = scored.task
        skipped = int(values_Q.isnan().sum())
        if not math.isfinite(value):  # no query had anything to find: there is no number to report
            reason = f"undefined: {skipped} of {len(values_Q)} queries have no relevant item"
            self.skipped[f"{task.name}/{scored.route}/{metric}"] = reason
            return
        self.rows.append(
            self._base(
                task,
                protocol=f"{task.protocol} {ROUTES[scored.route].about}{scored.note}",
                route=scored.route,
                metric=metric,
                unit=unit,
                value=value,
                n_queries=len(values_Q) - skipped,
                n_gallery=len(task.gallery),
                n_skipped=skipped,
                steps=scored.steps,
                num_tokens=scored.num_tokens,
                setting=scored.setting,
                selection=scored.selection,
                inversion_seed=scored.inversion_seed,
                seconds=scored.seconds,
            )
        )

    def _base(self, task: Task, *, name: str | None = None, **values: Any) -> Row:
        return Row(
            study=self._provenance.study,
            arm=self._provenance.arm,
            seed=self._provenance.seed,
            pairs_seen=self._provenance.pairs_seen,
            config_hash=self._provenance.config_hash,
            encoder=self._source.fingerprint,
            versions=versions(),
            commit=commit(),
            dataset=task.dataset,
            dataset_hash=task.dataset_hash,
            split=task.split,
            task=name or task.name,
            **values,
        )

    def _pictures(self, task: Task, shown: list[_Scored], usable_Q: Tensor) -> None:
        if task.kind not in INTRA:
            return
        queries = spread_queries(self._config.num_neighbours, usable_Q)
        most = max(1, _DENSE // len(task.gallery))
        counted = range(0, len(task.query), -(-len(task.query) // most))  # all, or evenly spread queries
        common = {"dataset": task.dataset, "split": task.split}
        for scored in shown:
            listed = neighbours(
                task, scored.query_QD, scored.gallery_GD, scored.relevance, queries, route=scored.route
            )
            if listed:
                self.frames["neighbours"].append(pd.DataFrame(listed).assign(**common))
            scores_QG = cosine_scores(scored.query_QD[list(counted)], scored.gallery_GD)
            relevance = scored.relevance.rows(slice(0, len(task.query), counted.step))
            other_QG = ~(relevance.relevant_QG | relevance.ignored_QG)
            for kind, mask in (("same class", relevance.relevant_QG), ("other class", other_QG)):
                about = {**common, "task": task.name, "route": scored.route}
                self.frames["histograms"].append(histogram(scores_QG[mask], kind).assign(**about))

    def _gap(self, dataset: Dataset, pairs: Pairs) -> None:
        """Measure gap and geometry on aligned pairs, and keep what their pictures need."""
        image_ND, text_ND = self._embed(pairs.image), self._embed(pairs.text)
        count = len(image_ND)
        texts = [str(text) for text in pairs.text.contents] or list(pairs.text.ids)
        distinct = len(set(texts))
        how = "pairs" if distinct == count else f"the {distinct} distinct texts"
        protocol = f"{count} aligned image-text pairs{pairs.note}, one text an image; "
        protocol += f"intervals: jackknife over {how}."
        labels = _coarse_labels(dataset, pairs)
        if count < FEWEST:
            self.skipped["gap/other metrics"] = f"{count} pairs; more than distances needs {FEWEST}"
        for found in pair_metrics(image_ND, text_ND, labels=labels, clusters=texts, seed=self._config.seed):
            if not math.isfinite(found.value):
                self.skipped[f"gap/{found.name}"] = f"is {found.value:g}"
                continue
            self.rows.append(
                self._base(
                    dataset.tasks[0],
                    name="gap",
                    protocol=protocol,
                    route="native",
                    metric=found.name,
                    unit=found.unit,
                    value=found.value,
                    low=found.low,
                    high=found.high,
                    n_queries=count,
                    n_gallery=count,
                )
            )
        about = {"dataset": dataset.name, "split": dataset.split}
        self.frames["projection"].append(projection(image_ND, text_ND, pairs.image).assign(**about))
        kept = torch.arange(0, count, -(-count * count // _DENSE) if count else 1)
        images_ND, texts_ND = image_ND[kept], text_ND[kept]
        off_diagonal = ~torch.eye(len(kept), dtype=torch.bool)
        across = cosine_scores(images_ND, texts_ND)
        for kind, scores in (
            ("image-image", cosine_scores(images_ND, images_ND)[off_diagonal]),
            ("text-text", cosine_scores(texts_ND, texts_ND)[off_diagonal]),
            ("image-text, other pairs", across[off_diagonal]),
            ("image-text, true pairs", across.diagonal()),
        ):
            self.frames["histograms"].append(
                histogram(scores, kind).assign(task="gap", route="native", **about)
            )

    def _factors(self, dataset: Dataset, pairs: Pairs) -> None:
        """Measure what native and inverted images hold of each factor, and which ones similarity follows.

        Inverted ones at the chosen setting, and (selection ``curve``) at its last snapshot.
        """
        images = pairs.image
        native_ND = self._embed(images)
        fitted = dataset.fit.images if dataset.fit is not None else None
        fitted_MD = self._embed(fitted) if fitted is not None else None
        reasons = unmeasured(dataset.factors, probed=fitted is not None)
        self.skipped |= {f"factors/{name}": reason for name, reason in reasons.items()}
        seen: list[tuple[str, Tensor, dict[str, Any]]] = [("native", native_ND, {})]
        if "oti" in self._config.routes and "text" in self._settings:
            setting, plan = self._settings["text"], self._config.plans["text"]
            inverted = self._inversions(images, "text")[setting.config]
            about = {
                "num_tokens": setting.config.num_tokens,
                "setting": plan.setting(setting.config),
                "inversion_seed": setting.config.seed,
                "seconds": inverted.seconds,
            }
            for steps, selection in ((setting.steps, setting.selection), (max(plan.snapshots), "curve")):
                made = {**about, "steps": steps, "selection": selection}
                seen.append(("oti", inverted.snapshots[steps], made))
        named = ", ".join(name for name, factor in dataset.factors.items() if factor.named)
        protocol = (
            f"{len(images)} images query all others{pairs.note}; captions may name {named}; "
            "intervals: jackknife over classes of queries. "
        )
        for route, query_ND, about in seen:
            for found in factor_metrics(
                query_ND,
                native_ND,
                dataset.factors,
                clusters=images.labels,
                fitted_MD=fitted_MD if route == "native" else None,
            ):
                self.rows.append(
                    self._base(
                        dataset.tasks[0],
                        name="factors",
                        protocol=protocol + ROUTES[route].about,
                        route=route,
                        metric=found.name,
                        unit=found.unit,
                        value=found.value,
                        low=found.low,
                        high=found.high,
                        n_queries=found.n_queries,
                        n_gallery=len(images),
                        n_skipped=len(images) - found.n_queries,
                        **about,
                    )
                )


_DIRECTIONS: dict[Target, str] = {"text": "OTI", "image": "OVI"}


def _metrics(scored: _Scored) -> dict[str, Tensor]:
    """Compute the metrics of a task for every query, and those that it reports beside the usual ones."""
    extras = scored.task.extras
    values = streamed_metrics(
        scored.query_QD, scored.gallery_GD, scored.relevance, ks=KS, past_r="mAP@R+1" in extras
    )
    for name in (extra for extra in extras if extra in _OF_LISTS):
        parts = []
        block = max(1, _DENSE // len(scored.gallery_GD))
        for start in range(0, len(scored.query_QD), block):
            rows = slice(start, start + block)
            scores_BG = cosine_scores(scored.query_QD[rows], scored.gallery_GD)
            parts.append(_OF_LISTS[name](scores_BG, scored.relevance.rows(rows)))
        values[name] = torch.cat(parts)
    return values


def _ndcg_at_10(scores_BG: Tensor, relevance: Relevance) -> Tensor:
    return ndcg(scores_BG, relevance.relevant_QG.double(), k=10, ignored_QG=relevance.ignored_QG)


# extras that need whole lists of scores
_OF_LISTS: dict[Extra, Callable[[Tensor, Relevance], Tensor]] = {
    "mAP_trapezoidal": trapezoidal_ap,
    "mP@1": partial(capped_precision, k=1),
    "mP@5": partial(capped_precision, k=5),
    "mP@10": partial(capped_precision, k=10),
    "nDCG@10": _ndcg_at_10,
}


def _method(config: InversionConfig) -> str:
    """Name the optimizer where it is not the paper's."""
    return "; L-BFGS steps" if config.method == "lbfgs" else ""


def _coarse_labels(dataset: Dataset, pairs: Pairs) -> tuple[str, ...]:
    """Return the classes of the paired images that retrieval by class uses, or those of the pairs."""
    task = _selection_task(dataset, "image-image")
    if task is None:
        return pairs.image.labels
    named = dict(zip(task.query.ids, task.query.labels, strict=True))
    found = tuple(named.get(item, "") for item in pairs.image.ids)
    return found if all(found) else pairs.image.labels


def _selection_task(dataset: Dataset | None, kind: str) -> Task | None:
    tasks = [task for task in dataset.tasks if task.kind == kind] if dataset is not None else []
    return min(tasks, key=lambda task: leading_place(task.name), default=None)
