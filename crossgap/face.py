"""What a notebook calls: strings and arrays in, frames out; no provenance, no folders unless they are wanted.

``crossgap.load_encoder``, ``load_dataset``, ``invert``, ``evaluate``, ``retrieval_metrics``, ``modality_gap``
and ``compare`` are imported when they are first used (docs/python.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from crossgap.datasets.features import feature_dataset
from crossgap.datasets.load import load_dataset
from crossgap.datasets.readers.feature_files import FeatureTable, read_features
from crossgap.datasets.split import MissingSplit
from crossgap.datasets.tasks import Dataset
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.trained_runs import trained_run
from crossgap.errors import InputError, check_known
from crossgap.evaluation.comparison import headline_rows
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.routes import ROUTES
from crossgap.evaluation.run import evaluate as measure
from crossgap.inversion.config import InversionConfig, Target
from crossgap.inversion.loop import invert as invert_targets
from crossgap.inversion.presets import Schedule, looks, preset
from crossgap.metrics.intervals import Bootstrap, mean_interval, paired_difference
from crossgap.metrics.pair_metrics import pair_metrics
from crossgap.metrics.relevance import LabelRelevance
from crossgap.metrics.similarity import unit_rows
from crossgap.metrics.streaming import streamed_metrics
from crossgap.provenance import Provenance, config_hash
from crossgap.reading.quoting import SIDE, quoted, quoted_queries
from crossgap.records import numeric
from crossgap.vocabulary import Probe

Features = Tensor | np.ndarray | pd.DataFrame
Picture = Image.Image | str | Path


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """Features of items and what inversion made of them: frames with one row an item.

    ``native`` and ``features`` have a column a dimension, unit rows; ``snapshots`` the same by step;
    ``losses`` has a column a step: 1 - cosine to the target.
    """

    native: pd.DataFrame
    features: pd.DataFrame
    snapshots: dict[int, pd.DataFrame]
    losses: pd.DataFrame


def invert(
    encoder: OpenClipEncoder,
    items: Sequence[Picture] | Sequence[str] | Features,
    *,
    into: Target = "text",
    ids: Sequence[str] | None = None,
    schedule: Schedule = "paper",
    snapshots: Sequence[int] = (),
    **settings: Any,
) -> Inverted:
    """Invert items into the other modality: images into text (OTI), or texts into image (OVI).

    Args:
        encoder: from ``crossgap.load_encoder``.
        items: images (opened, or their paths) for ``into="text"``, texts for ``into="image"``, or features.
        into: the modality that is inverted into.
        ids: names of the items, which fix their noise; default: their paths or texts, or their numbers.
        schedule: the paper's, or fast.
        snapshots: steps whose features are kept; 0 is the untrained start.
        settings: fields of :class:`crossgap.inversion.InversionConfig`: steps, num_tokens, template, ...

    Raises:
        InputError: an unknown setting, ids that repeat themselves, or what an inversion refuses.
    """
    options = [field.name for field in fields(InversionConfig)]
    for name in settings:
        check_known(name, options, "setting of an inversion")
    targets_ND, names = _targets(encoder, items, into, ids)
    config = replace(preset(encoder.name, into, schedule), **settings)
    inversion = invert_targets(
        encoder, targets_ND, into=into, config=config, item_ids=names, snapshots=tuple(snapshots)
    )
    return Inverted(
        native=_frame(targets_ND, names),
        features=_frame(inversion.features, names),
        snapshots={step: _frame(features_ND, names) for step, features_ND in inversion.snapshots.items()},
        losses=_frame(inversion.losses, names),
    )


def evaluate(
    source: OpenClipEncoder | str | Path | Sequence[Path],
    dataset: Dataset | str | None = None,
    *,
    name: str | None = None,
    split: str = "test",
    limit: int | None = None,
    routes: Sequence[str] = tuple(ROUTES),
    schedule: Schedule = "paper",
    steps: int | None = None,
    num_tokens: Sequence[int] = (),
    snapshots: Sequence[int] = (),
    probes: Sequence[Probe] = (),
    seed: int = 0,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Evaluation:
    """Measure an encoder on a dataset by routes, or features made elsewhere; split val chooses settings.

    Args:
        source: an encoder, or files of features (docs/embeddings.md), which bring their dataset along.
        dataset: its name, as ``crossgap.load_dataset`` takes it, or a loaded one, which has no split val.
        name: what the rows call the model; default: the encoder's name.
        split, limit, data_root: of ``crossgap.load_dataset``.
        routes: how query and gallery are made.
        schedule, steps, num_tokens, snapshots: of inversion, as of ``python -m crossgap.evaluate``.
        probes: classification by labelled training images.
        seed: of inversion noise and random controls.
        cache: folder in which features and inversions are kept.

    Returns:
        ``.frame``: its rows; ``.tables["per_query"]``: values of single queries; ``.skipped``: what could not
        be measured, and why; ``.write(folder)`` for ``python -m analysis.report``.
    """
    measured: OpenClipEncoder | FeatureTable
    if isinstance(source, OpenClipEncoder):
        measured = source
    else:
        paths = [Path(source)] if isinstance(source, str | Path) else list(source)
        measured = read_features(paths)
    test, val = _data(measured, dataset, split, limit, None if data_root is None else Path(data_root))
    plans: dict[Target, InversionPlan] = {}
    if isinstance(measured, OpenClipEncoder):
        for into in ("text", "image"):
            inversion = preset(measured.name, into, schedule)
            inversion = replace(
                inversion, seed=seed, template=test.default_template, steps=steps or inversion.steps
            )
            plans[into] = InversionPlan(
                config=inversion,
                token_counts=tuple(num_tokens) or (inversion.num_tokens,),
                snapshots=tuple(snapshots) or looks(inversion.steps),
            )
    config = EvaluationConfig(routes=tuple(routes), plans=plans, seed=seed, probes=tuple(probes))
    about = {"fingerprint": measured.fingerprint, "dataset": test.hash, "evaluation": repr(config)}
    run = trained_run(Path(measured.name)) if isinstance(measured, OpenClipEncoder) else None
    provenance = Provenance(
        study="evaluate",
        arm=name or (measured.name if run is None else run.arm),
        seed=0 if run is None else run.seed,
        pairs_seen=None if run is None else run.pairs_seen,
        config_hash=config_hash(about),
    )
    kept = None if cache is None else Path(cache)
    return measure(measured, test, val, config=config, provenance=provenance, cache=kept)


def retrieval_metrics(
    query: Features,
    gallery: Features | None = None,
    *,
    query_labels: Sequence[Any],
    gallery_labels: Sequence[Any] | None = None,
    ks: Sequence[int] = (1, 5, 10),
) -> pd.DataFrame:
    """Retrieve by cosine; an item is relevant where it has the query's label. ``.mean()`` averages queries.

    Args:
        query: features, one row an item.
        gallery: what is searched; None: the queries themselves, each without itself.
        query_labels, gallery_labels: classes, as many as rows.
        ks: of hit@k and recall@k.

    Returns:
        one row a query, a column a metric (:func:`crossgap.metrics.retrieval.retrieval_metrics`): fractions,
        missing for a query with nothing to find.
    """
    alone = gallery is None
    query_QD, names = _tensor(query), _names(query)
    gallery_GD = query_QD if gallery is None else _tensor(gallery)
    found_labels = query_labels if gallery_labels is None and alone else gallery_labels
    if found_labels is None:
        raise InputError("retrieval_metrics: a gallery needs gallery_labels")
    ids = [f"query {place}" for place in range(len(query_QD))]
    others = ids if alone else [f"gallery {place}" for place in range(len(gallery_GD))]
    judged = LabelRelevance(ids, others, [*map(str, query_labels)], [*map(str, found_labels)])
    values = streamed_metrics(query_QD, gallery_GD, judged, ks=tuple(ks))
    return pd.DataFrame({metric: values_Q.numpy() for metric, values_Q in values.items()}, index=names)


def modality_gap(
    image: Features, text: Features, *, labels: Sequence[Any] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Measure gap and geometry of pairs: row k of the images belongs to row k of the texts.

    Args:
        labels: classes of the pairs, which clusters are compared with; None: each pair by itself.
        seed: of what is random: the split that linear separability is tested on, starts of clusters.

    Returns:
        one row a metric: value, low, high (95 % jackknife interval over pairs, where there is one), unit.
    """
    image_ND, text_ND = (unit_rows(_tensor(side)) for side in (image, text))
    pairs = [str(place) for place in range(len(image_ND))]
    classes = pairs if labels is None else [*map(str, labels)]
    metrics = pair_metrics(image_ND, text_ND, labels=classes, clusters=pairs, seed=seed)
    table = pd.DataFrame([metric._asdict() for metric in metrics]).set_index("name").rename_axis("metric")
    return table.astype({"low": "float64", "high": "float64"})[["value", "low", "high", "unit"]]


def compare(first: Evaluation, second: Evaluation | None = None) -> pd.DataFrame:
    """Compare routes with native features, or two evaluations with each other, query by query.

    Args:
        first: of one model; its every route minus its native features.
        second: of another model on the same queries: second minus first, route by route.

    Returns:
        columns dataset, split, task, metric, route, value (of the second where there is one), difference,
        low, high (95 % bootstrap interval: whole classes of queries resampled), n_queries, n_classes;
        fractions.

    Raises:
        InputError: two evaluations that share no queries.
    """
    ours = _headline_queries(first)
    on = [*SIDE, "metric", "route"]
    if second is None:
        natives = ours[ours["route"] == "native"].drop(columns="route")
        others = ours[ours["route"] != "native"]
        keys = [*SIDE, "metric"]
        changes = paired_difference(others, natives, on=keys, by=on)
        measured = others
    else:
        measured = _headline_queries(second)
        changes = paired_difference(measured, ours, on=on, by=on)
    if changes.empty:
        raise InputError("compare: there is nothing that both measured on the same queries")
    table = mean_interval(changes, on, bootstrap=Bootstrap()).rename(
        columns={"value": "difference", "n_clusters": "n_classes"}
    )
    means = measured.groupby(on, sort=False)["value"].mean().reset_index()
    return means.merge(table, on=on)[[*on, "value", "difference", "low", "high", "n_queries", "n_classes"]]


def _headline_queries(evaluation: Evaluation) -> pd.DataFrame:
    """Give the quoted per-query values of each task's headline metric."""
    rows = quoted(evaluation.frame)
    return headline_rows(quoted_queries(numeric(evaluation.tables["per_query"]), rows))


def _data(
    source: OpenClipEncoder | FeatureTable,
    dataset: Dataset | str | None,
    split: str,
    limit: int | None,
    root: Path | None,
) -> tuple[Dataset, Dataset | None]:
    """Load what is measured, and split val where there is one to choose settings on."""
    if isinstance(dataset, Dataset):
        return dataset, None

    def load(part: str) -> Dataset:
        if isinstance(source, FeatureTable):
            return feature_dataset(source, split=part, limit=limit)
        if dataset is None:
            raise InputError("evaluate: an encoder needs a dataset; features bring theirs along")
        return load_dataset(dataset, split=part, limit=limit, data_root=root)

    test = load(split)
    if split == "val":
        return test, None
    try:
        return test, load("val")
    except MissingSplit:
        return test, None


def _targets(
    encoder: OpenClipEncoder, items: Any, into: Target, ids: Sequence[str] | None
) -> tuple[Tensor, list[str]]:
    """Encode what is no features yet; name items by what they are, where that tells them apart."""
    check_known(into, ("text", "image"), "modality to invert into")
    if isinstance(items, Tensor | np.ndarray | pd.DataFrame):
        targets_ND, names = (
            unit_rows(_tensor(items)).to(encoder.device),
            [str(name) for name in _names(items)],
        )
    else:
        listed = list(items)
        targets_ND = encoder.encode_image(listed) if into == "text" else encoder.encode_text(listed)
        names = [str(item) for item in listed if isinstance(item, str | Path)]
        if len(set(names)) < len(listed):
            names = [str(place) for place in range(len(listed))]
    return targets_ND, names if ids is None else list(ids)


def _frame(values: Tensor, names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values.detach().float().cpu().numpy(), index=pd.Index(names, name="id"))


def _tensor(features: Features) -> Tensor:
    values = features.to_numpy() if isinstance(features, pd.DataFrame) else features
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    if tensor.ndim != 2:
        raise InputError(f"features are a matrix with one item a row, not of shape {tuple(tensor.shape)}")
    return tensor.detach().cpu() if tensor.dtype == torch.float64 else tensor.detach().cpu().float()


def _names(features: Features) -> list[Any]:
    if isinstance(features, pd.DataFrame):
        return list(features.index)
    return list(range(len(features)))
