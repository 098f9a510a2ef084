"""Write a study folder as training and evaluation would, with invented numbers whose answers are known."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from crossgap.files import append_line, write_json
from crossgap.records import Row, write_rows, write_table
from pretrain.terms import TERMS

CHANCE = 0.05
CONTROL_SHIFT = {"centred": 0.004, "class_pca": 0.02, "random_subspace": -0.01}
WITHIN = {"image-subgroup": "oti", "text-subgroup": "ovi"}
ACROSS = ("image-text", "text-image", "zero-shot-subgroup")


@dataclass(frozen=True, kw_only=True)
class SyntheticArm:
    """The truth behind an arm: its gap, native mAP, peak inversion gain (fraction) and best step."""

    name: str
    label: str
    gap: float = 0.8
    native: float = 0.24
    gain: float = 0.02
    best_step: int = 25
    cooling: float = 0.3  # share of the temperature that training takes away; 0: a fixed temperature
    loss: float | None = None  # 1 - cosine after inversion; None: not written
    description: str = ""
    weights: dict[str, float] = field(default_factory=dict)  # of terms beside clip
    acts_on: dict[str, str] | None = field(default_factory=dict)  # of terms of one's own; None: not written
    temperature: float = 0.01
    steps: int = 500
    settings: dict[str, Any] = field(default_factory=dict)  # further ones of the configuration


@dataclass(frozen=True, kw_only=True)
class SyntheticStudy:
    """What to write: arms x seeds, the queries, and trials that did not end well."""

    arms: tuple[SyntheticArm, ...] = (
        SyntheticArm(name="baseline", label="Baseline", description="The contrastive loss alone."),
        SyntheticArm(
            name="narrow",
            label="Narrow gap",
            gap=0.2,
            gain=0.0,
            description="A penalty on the centroid distance.",
        ),
    )
    seeds: tuple[int, ...] = (0, 1)
    n_queries: int = 40
    n_classes: int = 8
    steps: tuple[int, ...] = (5, 25, 100)
    num_tokens: tuple[int, ...] = (1, 2)
    settings: dict[str, float] = field(default_factory=lambda: {"": 0.0})  # words -> what they add to a gain
    failed: dict[tuple[str, int], str] = field(default_factory=dict)
    unfinished: tuple[tuple[str, int], ...] = ()
    missing: tuple[tuple[str, int], ...] = ()
    smoke: bool = False
    pictures: bool = True
    mode: str = "grid"
    noise: float = 0.04  # of an inverted query beside its native value
    draw: int = 0  # another one has other noise


def write_study(folder: Path, study: SyntheticStudy | None = None) -> Path:
    """Write ``folder`` (study.json, trials/...) and return it."""
    study = study or SyntheticStudy()
    write_json(
        folder / "study.json",
        {
            "study": "synthetic",
            "description": "Invented numbers.",
            "arms": [{"name": a.name, "label": a.label, "description": a.description} for a in study.arms],
            "baseline": study.arms[0].name,
            "seeds": list(study.seeds),
            "smoke": study.smoke,
            "mode": study.mode,
            "selection": "Steps and token count were chosen on the validation split.",
        },
    )
    for position, arm in enumerate(study.arms):
        for seed in study.seeds:
            key = (arm.name, seed)
            trial = folder / "trials" / f"{arm.name}-s{seed}"
            if key in study.missing:
                continue
            trial.mkdir(parents=True)
            _write_training(trial, arm, seed, position)
            if key in study.failed:
                result = {
                    "state": "failed",
                    "arm": arm.name,
                    "seed": seed,
                    "reason": study.failed[key],
                    "step": 30,
                    "log_tail": [f"loading <{arm.name}>", "Killed"],
                }
                write_json(trial / "result.json", result)
            elif key not in study.unfinished:
                write_run(trial, study, arm, seed)
                result = {"state": "complete", "arm": arm.name, "seed": seed, "seconds": 100.0 + position}
                write_json(trial / "result.json", result)
    return folder


def write_run(folder: Path, study: SyntheticStudy, arm: SyntheticArm, seed: int) -> None:
    """Write what one evaluation leaves: rows.jsonl and the four tables."""
    rng = np.random.default_rng([seed, *arm.name.encode(), *[study.draw] * bool(study.draw)])
    common = {
        "study": "synthetic",
        "arm": arm.name,
        "seed": seed,
        "dataset": "emoji",
    }
    run = _Run(study, arm, common, rng)
    for split in ("val", "test"):
        for task, route in WITHIN.items():
            run.retrieval(split, task, route)
    for task in ACROSS:
        run.across(task)
    run.gap()
    write_rows(folder / "rows.jsonl", run.rows)
    write_table(folder, "per_query", run.per_query())
    if study.pictures:
        for name, frame in _pictures(study, arm, common, rng).items():
            write_table(folder, name, frame)


class _Run:
    def __init__(
        self, study: SyntheticStudy, arm: SyntheticArm, common: dict[str, Any], rng: np.random.Generator
    ) -> None:
        self.study, self.arm, self.common, self.rng = study, arm, common, rng
        self.rows: list[Row] = []
        self.measured: list[tuple[dict[str, Any], np.ndarray]] = []
        ids = np.arange(study.n_queries)
        self.query_ids = [f"concept-{number}/noto" for number in ids]
        self.classes = [f"class-{number % study.n_classes}" for number in ids]
        # one difficulty a query, shared by the models: what makes paired differences narrower
        difficulty = np.random.default_rng(7).normal(0, 0.12, study.n_queries)
        self.difficulty = difficulty - difficulty.mean()

    def row(self, *, task: str, metric: str, value: float, split: str = "test", **other: Any) -> None:
        settings = {
            "route": "native",
            "protocol": "Invented.",
            "encoder": f"fingerprint-{self.arm.name}-{self.common['seed']}",
            "dataset_hash": "d" * 64,
            "n_queries": self.study.n_queries,
            "n_gallery": 3 * self.study.n_queries,
            "pairs_seen": 76_800,
            "seconds": 1.5,
            "config_hash": f"hash-{self.arm.name}",
            "versions": "crossgap 0.1.0, torch 2.0",
            "commit": "c" * 40,
            **other,
        }
        self.rows.append(
            Row(task=task, metric=metric, value=float(value), split=split, **self.common, **settings)
        )

    def measure(
        self, split: str, task: str, route: str, metric: str, values: np.ndarray, *, selection: str = "none",
        steps: int | None = None, num_tokens: int | None = None, words: str = "",
    ) -> None:  # fmt: skip
        setting = {"steps": steps, "num_tokens": num_tokens, "setting": words, "selection": selection}
        inversion_seed = 0 if steps is not None else None
        skipped = int(np.isnan(values).sum())
        self.row(
            task=task, metric=metric, value=np.nanmean(values), split=split, route=route, n_skipped=skipped,
            inversion_seed=inversion_seed, n_queries=len(values) - skipped, **setting,
        )  # fmt: skip
        self.measured.append(
            (
                {
                    "inversion_seed": inversion_seed,
                    "split": split,
                    "task": task,
                    "route": route,
                    "metric": metric,
                }
                | setting,
                values,
            )
        )

    def per_query(self) -> pd.DataFrame:
        """Give every measured query its row, in the order of measuring."""
        about = pd.DataFrame([about for about, _ in self.measured]).assign(**self.common)
        about = about.astype({"inversion_seed": "Int64", "steps": "Int64", "num_tokens": "Int64"})
        values_MQ = np.stack([values for _, values in self.measured])
        measured_N, query_N = np.nonzero(~np.isnan(values_MQ))
        return about.iloc[measured_N].assign(
            query_id=np.array(self.query_ids)[query_N],
            query_class=np.array(self.classes)[query_N],
            value=values_MQ[measured_N, query_N],
        )

    def without_one(self) -> dict[str, int]:
        return {"n_queries": self.study.n_queries - 1, "n_skipped": 1}

    def values(self, level: float) -> np.ndarray:
        noise = self.rng.normal(0, 0.03, self.study.n_queries)
        values = np.clip(level + self.difficulty + noise, 0, 1)
        values[0] = np.nan  # nothing relevant in the gallery
        return values

    def retrieval(self, split: str, task: str, route: str) -> None:
        native = self.values(self.arm.native)
        self.measure(split, task, "native", "mAP", native)
        self.measure(split, task, "native", "hit@1", (native > self.arm.native).astype(float))
        self.row(task=task, metric="mAP", value=CHANCE, split=split, route="chance", **self.without_one())
        for control, shift in CONTROL_SHIFT.items():
            self.measure(split, task, control, "mAP", native + shift + self.rng.normal(0, 0.01, len(native)))
        for words, more in self.study.settings.items():
            for tokens in self.study.num_tokens:
                self.inversion(split, task, route, native, words, more, tokens)
        if split == "test":
            self.row(task=task, metric="same_other_auc", unit="probability", value=0.7)

    @property
    def best(self) -> tuple[int, int, str]:
        words = max(self.study.settings, key=lambda name: self.study.settings[name])
        return self.arm.best_step, self.study.num_tokens[0], words

    def inversion(
        self, split: str, task: str, route: str, native: np.ndarray, words: str, more: float, tokens: int
    ) -> None:
        self.measure(
            split, task, "untrained_tokens", "mAP", self.values(CHANCE + 0.01), steps=0,
            num_tokens=tokens, selection="curve", words=words,
        )  # fmt: skip
        for steps in self.study.steps:
            distance = np.log(steps / self.arm.best_step) ** 2
            level = self.arm.gain + more - 0.02 * distance - 0.004 * (tokens - 1)
            values = native + level + self.rng.normal(0, self.study.noise, len(native))
            selections = ["curve"]
            if split == "test" and (steps, tokens, words) == self.best:
                selections.append("val")
            for selection in selections:
                self.measure(
                    split,
                    task,
                    route,
                    "mAP",
                    values,
                    steps=steps,
                    num_tokens=tokens,
                    selection=selection,
                    words=words,
                )
            if self.arm.loss is not None:
                loss = self.arm.loss + 0.02 * self.common["seed"]
                setting = {"steps": steps, "num_tokens": tokens, "setting": words, "inversion_seed": 0}
                self.row(task=f"{route}-loss", metric="loss", unit="1 - cosine", value=loss, split=split,
                         route=route, selection="curve", **setting)  # fmt: skip

    def across(self, task: str) -> None:
        native = (self.rng.random(self.study.n_queries) < 0.3).astype(float)
        self.measure("test", task, "native", "hit@1", native)
        self.row(task=task, metric="hit@1", value=0.01, route="chance")
        if task.startswith("zero-shot"):
            for route in ("oti", "ovi"):
                worse = native * (self.rng.random(self.study.n_queries) < 0.8)
                steps, tokens, words = self.best
                best: dict[str, Any] = {"steps": steps, "num_tokens": tokens, "words": words}
                self.measure("test", task, route, "hit@1", worse, selection="val", **best)

    def gap(self) -> None:
        gap = self.arm.gap + 0.01 * self.common["seed"]
        pairs = {"n_queries": self.study.n_queries, "n_gallery": self.study.n_queries}
        for metric, unit, value, width in (
            ("centroid_distance", "distance", gap, 0.02),
            ("mean_pair_cosine", "cosine", 0.4, 0.01),
            ("RMG", "ratio", 0.5, 0.01),
            ("linear_separability", "fraction", 0.99, 0.005),
            ("alignment", "squared distance", 1.2, None),
            ("uniformity_image", "log mean", -2.1, None),
            ("uniformity_text", "log mean", -2.4, None),
        ):
            bounds = {} if width is None else {"low": value - width, "high": value + width}
            self.row(task="gap", metric=metric, unit=unit, value=value, **bounds, **pairs)


def _write_training(folder: Path, arm: SyntheticArm, seed: int, position: int) -> None:
    rng = np.random.default_rng([seed, position])
    config = {
        "recipe": arm.name,
        "seed": seed,
        "steps": arm.steps,
        "objective": {
            "weights": {"clip": 1.0, **arm.weights},
            "temperature": {"regime": "fixed", "initial": arm.temperature},
        },
        **arm.settings,
    }
    document: dict[str, Any] = {"config": config, "config_hash": f"hash-{arm.name}"}
    if arm.acts_on is not None:
        known = {name: TERMS[name].acts_on for name in config["objective"]["weights"] if name in TERMS}
        document["acts_on"] = {**known, **arm.acts_on}
    write_json(folder / "config.json", document)
    terms = {"contrastive": 1.0} if position == 0 else {"contrastive": 1.0, "centroid": 0.5}
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as stream:
        for step in range(0, 310, 10):
            weighted = {
                name: w * (1.5 + 4 * np.exp(-step / 90) + rng.normal(0, 0.05)) for name, w in terms.items()
            }
            append_line(
                stream,
                {
                    "step": step,
                    "loss": sum(weighted.values()),
                    "temperature": 0.07 * (1 - arm.cooling * step / 300),
                    "learning_rate": 5e-4,
                    "gradient_norm": 1.0,
                    "pairs_per_second": 900.0,
                    "seconds": step * 0.3,
                    **{f"raw/{name}": value / terms[name] for name, value in weighted.items()},
                    **{f"weighted/{name}": value for name, value in weighted.items()},
                },
            )


def thumbnail(colour: tuple[int, int, int], *, size: int = 24) -> bytes:
    """Encode a small disc on white as PNG."""
    grid = np.indices((size, size)) - (size - 1) / 2
    disc = (grid**2).sum(axis=0) < (size / 2.4) ** 2
    pixels = np.where(disc[..., None], np.array(colour), 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _pictures(
    study: SyntheticStudy, arm: SyntheticArm, common: dict[str, Any], rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    neighbours = []
    for query in range(3):
        for task, routes in (("image-subgroup", ("native", "oti")), ("text-subgroup", ("native", "ovi"))):
            image = task == "image-subgroup"
            for route in routes:
                for rank in range(1, 6):
                    relevant = bool((rank + query + (route != "native")) % 3)
                    colour = tuple(int(value) for value in rng.integers(0, 255, 3))
                    neighbours.append(
                        {
                            **common, "split": "test", "task": task, "route": route,
                            "query_id": f"concept-{query}/noto", "query_class": f"class-{query}",
                            "query_image": thumbnail((40, 90, 60 * query)) if image else None,
                            "query_text": f"name of concept {query}",
                            "rank": rank, "neighbour_id": f"concept-{10 * query + rank}/other",
                            "neighbour_class": f"class-{query if relevant else rank + 20}",
                            "neighbour_image": thumbnail(colour) if image else None,
                            "neighbour_text": f"$name$ of concept {10 * query + rank} & more",
                            "score": 0.9 - 0.05 * rank, "relevant": relevant,
                        }
                    )  # fmt: skip
    points = []
    for modality, sign in (("image", 1), ("text", -1)):
        for item in range(study.n_queries):
            points.append(
                {
                    **common, "split": "test", "method": "PCA of both modalities", "modality": modality,
                    "item_id": f"concept-{item}/{modality}", "label": f"class-{item % study.n_classes}",
                    "x": sign * arm.gap / 2 + rng.normal(0, 0.1), "y": rng.normal(0, 0.2),
                }
            )  # fmt: skip
    edges = np.linspace(-1, 1, 41)
    middles = (edges[:-1] + edges[1:]) / 2
    histograms = []
    for kind, mean, total in (("same class", 0.6, 900), ("other class", 0.4, 9_000)):
        density = np.exp(-((middles - mean) ** 2) / 0.02)
        for low, high, count in zip(edges[:-1], edges[1:], total * density / density.sum(), strict=True):
            histograms.append(
                {
                    **common, "split": "test", "task": "image-subgroup", "route": "native", "kind": kind,
                    "bin_low": low, "bin_high": high, "count": int(count),
                }
            )  # fmt: skip
    return {
        "neighbours": pd.DataFrame(neighbours),
        "projection": pd.DataFrame(points),
        "histograms": pd.DataFrame(histograms),
    }
