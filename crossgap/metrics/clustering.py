"""Whether items of both modalities group by what they show or by the modality they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.similarity import check_sides, unit_rows


class Clustering(NamedTuple):
    """Agreement of clusters with classes."""

    v_measure: float  # range [0, 1]; higher is better
    homogeneity: float  # range [0, 1]; higher is better
    adjusted_rand: float  # range [-0.5, 1]; higher is better; 0 by chance
    modality_v_measure: float  # the same clusters against the modality; lower is better


def group_clustering(
    image_ND: Tensor,
    text_MD: Tensor,
    *,
    image_labels: Sequence[str],
    text_labels: Sequence[str],
    seed: int,
    num_clusters: int | None = None,
) -> Clustering:
    """Cluster images and texts together and compare the clusters with the classes.

    k-means (Lloyd, k-means++, best of four starts) on the unit rows of both modalities, with as many
    clusters as there are classes unless given. V-measure: the harmonic mean of homogeneity ``1 - H(class
    | cluster) / H(class)`` and completeness ``1 - H(cluster | class) / H(cluster)`` ([0] Rosenberg and
    Hirschberg, 2007, EMNLP-CoNLL). It is the normalised mutual information (NMI) whose divisor is the
    arithmetic mean of both entropies, scikit-learn's default: what the released code of [2] prints as NMI
    is this number. ARI: the share of pairs on which the two partitions agree, adjusted for chance ([1]
    Hubert and Arabie, 1985, Journal of Classification 2). A gap hurts both where it hurts no ranking ([2]
    ModGap, 2026, arXiv 2601.18525, which fixes 10 clusters). The V-measure against the modality says
    whether clusters are modalities. Estimates depend on the number of items: hold it fixed across models.
    Not differentiable.

    Shape: (N, D), (M, D), N and M labels -> four numbers. Unit: score. Range: V-measure and homogeneity
    [0, 1], ARI [-0.5, 1]; higher is better.

    Raises:
        InputError: numbers or widths that do not fit, fewer than two classes, a number of clusters outside 2
            ... the number of items, or a row without direction.
    """
    from sklearn.cluster import KMeans  # here, as scikit-learn takes a second to import
    from sklearn.metrics import adjusted_rand_score, homogeneity_score, v_measure_score

    check_sides(image_ND, text_MD)
    if len(image_labels) != len(image_ND) or len(text_labels) != len(text_MD):
        raise InputError(
            f"each item needs one label: {len(image_ND)} images, {len(image_labels)} labels; "
            f"{len(text_MD)} texts, {len(text_labels)} labels"
        )
    labels = [*image_labels, *text_labels]
    classes = len(set(labels))
    if classes < 2:
        raise InputError(f"clusters are compared with classes, of which there must be two, got {classes}")
    num_clusters = classes if num_clusters is None else num_clusters
    if not 2 <= num_clusters <= len(labels):
        raise InputError(f"{num_clusters=} must lie between 2 and the number of items, {len(labels)}")
    both_ND = torch.cat([unit_rows(side.detach()).cpu() for side in (image_ND, text_MD)])
    distinct = len(both_ND.unique(dim=0))
    fitted = KMeans(min(num_clusters, distinct), n_init=4, random_state=seed).fit(both_ND.numpy())
    modality = ["image"] * len(image_labels) + ["text"] * len(text_labels)
    clusters = fitted.labels_
    return Clustering(
        float(v_measure_score(labels, clusters)),
        float(homogeneity_score(labels, clusters)),
        float(adjusted_rand_score(labels, clusters)),
        float(v_measure_score(modality, clusters)),
    )
