"""What aligned image-text pairs tell: the gap and the geometry, and the factors that similarity follows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from crossgap.datasets.tasks import Dataset, Pairs
from crossgap.evaluation.choices import selection_task
from crossgap.evaluation.features import Inversions
from crossgap.evaluation.measuring import Skipped
from crossgap.evaluation.pictures import Lines, pair_pictures
from crossgap.evaluation.plan import InversionPlan
from crossgap.evaluation.routes import ROUTES
from crossgap.evaluation.rows import Origin
from crossgap.evaluation.sides import ChosenSetting
from crossgap.metrics.factors import factor_metrics, unmeasured
from crossgap.metrics.pair_metrics import FEWEST, pair_metrics
from crossgap.records import Row


class Seen(NamedTuple):
    """Images as a route makes them; ``about`` is what rows say of the setting."""

    route: str
    query_ND: Tensor
    about: dict[str, Any]


def gap_records(
    dataset: Dataset, pairs: Pairs, image_ND: Tensor, text_ND: Tensor, origin: Origin, *, seed: int
) -> Iterator[Row | Skipped | Lines]:
    """Measure gap and geometry on aligned pairs, and keep what their pictures need.

    Args:
        image_ND, text_ND: features of the pairs.
        seed: of what is random: the split that linear separability is tested on, starts of clusters.
    """
    count = len(image_ND)
    texts = [str(text) for text in pairs.text.contents] or list(pairs.text.ids)
    distinct = len(set(texts))
    how = "pairs" if distinct == count else f"the {distinct} distinct texts"
    protocol = f"{count} aligned image-text pairs{pairs.note}, one text an image; "
    protocol += f"intervals: jackknife over {how}."
    if count < FEWEST:
        yield Skipped("gap/other metrics", f"{count} pairs; more than distances needs {FEWEST}")
    labels = coarse_labels(dataset, pairs)
    for metric in pair_metrics(image_ND, text_ND, labels=labels, clusters=texts, seed=seed):
        if not math.isfinite(metric.value):
            yield Skipped(f"gap/{metric.name}", f"is {metric.value:g}")
            continue
        yield origin.row(
            dataset.tasks[0],
            name="gap",
            protocol=protocol,
            route="native",
            metric=metric.name,
            unit=metric.unit,
            value=metric.value,
            low=metric.low,
            high=metric.high,
            n_queries=count,
            n_gallery=count,
        )
    about = {"dataset": dataset.name, "split": dataset.split}
    yield from pair_pictures(image_ND, text_ND, pairs.image, about)


def coarse_labels(dataset: Dataset, pairs: Pairs) -> tuple[str, ...]:
    """Return the classes of the paired images that retrieval by class uses, or those of the pairs."""
    task = selection_task(dataset, "image-image")
    if task is None:
        return pairs.image.labels
    named = dict(zip(task.query.ids, task.query.labels, strict=True))
    labels = tuple(named.get(item, "") for item in pairs.image.ids)
    return labels if all(labels) else pairs.image.labels


def inverted_images(
    pairs: Pairs, native_ND: Tensor, chosen: ChosenSetting, plan: InversionPlan, inversions: Inversions
) -> list[Seen]:
    """Invert the paired images: at the chosen setting, and (selection ``curve``) at its last snapshot."""
    inverted = inversions.planned(pairs.image, native_ND, "text", plan)[chosen.config]
    about = {
        "num_tokens": chosen.config.num_tokens,
        "setting": plan.setting(chosen.config),
        "inversion_seed": chosen.config.seed,
        "seconds": inverted.seconds,
    }
    return [
        Seen("oti", inverted.snapshots[steps], {**about, "steps": steps, "selection": selection})
        for steps, selection in ((chosen.steps, chosen.selection), (max(plan.snapshots), "curve"))
    ]


def factor_records(
    dataset: Dataset,
    pairs: Pairs,
    native_ND: Tensor,
    inverted: Sequence[Seen],
    fitted_MD: Tensor | None,
    origin: Origin,
) -> Iterator[Row | Skipped]:
    """Measure what native and inverted images hold of each factor, and which ones similarity follows.

    Args:
        native_ND: features of the paired images, which all queries are compared with.
        fitted_MD: features of the training images, which linear probes of native images are fitted on.
    """
    images = pairs.image
    for name, reason in unmeasured(dataset.factors, probed=fitted_MD is not None).items():
        yield Skipped(f"factors/{name}", reason)
    named = ", ".join(name for name, factor in dataset.factors.items() if factor.named)
    protocol = (
        f"{len(images)} images query all others{pairs.note}; captions may name {named}; "
        "intervals: jackknife over classes of queries. "
    )
    for route, query_ND, about in (Seen("native", native_ND, {}), *inverted):
        for metric in factor_metrics(
            query_ND,
            native_ND,
            dataset.factors,
            clusters=images.labels,
            fitted_MD=fitted_MD if route == "native" else None,
        ):
            yield origin.row(
                dataset.tasks[0],
                name="factors",
                protocol=protocol + ROUTES[route].about,
                route=route,
                metric=metric.name,
                unit=metric.unit,
                value=metric.value,
                low=metric.low,
                high=metric.high,
                n_queries=metric.n_queries,
                n_gallery=len(images),
                n_skipped=len(images) - metric.n_queries,
                **about,
            )
