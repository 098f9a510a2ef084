"""Slow twins of metrics and maps: formulas written straight down as plain loops, used by tests only."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor
from torchmetrics.functional.retrieval import retrieval_average_precision

from crossgap.metrics.ranking import Ranking, rankings
from crossgap.metrics.relevance import Relevance

Rows = Sequence[Sequence[float]]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(u * v for u, v in zip(a, b, strict=True))


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return dot(a, b) / (math.hypot(*a) * math.hypot(*b))


def mean_row(rows: Rows) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def unit_row(row: Sequence[float]) -> list[float]:
    return [value / math.hypot(*row) for value in row]


def orders_of(scores: Sequence[float], ignored: Sequence[bool]) -> list[list[int]]:
    """List every order of the kept items that the scores allow."""
    kept = [item for item in range(len(scores)) if not ignored[item]]
    levels = sorted({scores[item] for item in kept}, reverse=True)
    runs = [[item for item in kept if scores[item] == level] for level in levels]
    products = itertools.product(*(itertools.permutations(run) for run in runs))
    return [[item for run in order for item in run] for order in products]


def plain_trapezoidal_ap(scores: Sequence[float], relevant: Sequence[bool], ignored: Sequence[bool]) -> float:
    """Average precision before and after each hit, over every order that the scores allow."""
    found = []
    for order in orders_of(scores, ignored):
        hits, area = 0, 0.0
        for rank, item in enumerate(order):  # from 0: the number of items before it
            if relevant[item]:
                before = 1.0 if rank == 0 else hits / rank
                hits += 1
                area += (before + hits / (rank + 1)) / 2
        found.append(area / hits if hits else math.nan)
    return math.fsum(found) / len(found)


def released_precisions(
    order: Sequence[int], ok: Sequence[int], junk: Sequence[int], kappas: Sequence[int]
) -> list[float]:
    """Count precision at each kappa as filipradenovic/revisitop does: python/evaluate.py, compute_map.

    Positions of positives are moved up by the junk before them; kappa is cut to the last positive's place.
    """
    if not ok:
        return [math.nan] * len(kappas)
    places, dropped = [], 0
    for place, item in enumerate(order):
        if item in junk:
            dropped += 1
        elif item in ok:
            places.append(place - dropped + 1)
    found = []
    for kappa in kappas:
        cut = min(max(places), kappa)
        found.append(sum(place <= cut for place in places) / cut)
    return found


def plain_ndcg(scores: Sequence[float], gains: Sequence[float], ignored: Sequence[bool], k: int) -> float:
    """Discounted gain over the best one, averaged over every order that the scores allow."""

    def dcg(listed: Sequence[float]) -> float:
        return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(listed[:k], start=1))

    best = dcg(sorted((gain for gain, out in zip(gains, ignored, strict=True) if not out), reverse=True))
    if best == 0:
        return math.nan
    found = [dcg([gains[item] for item in order]) for order in orders_of(scores, ignored)]
    return math.fsum(found) / len(found) / best


def plain_topk_accuracy(scores: Sequence[float], own: int, k: int) -> float:
    """Count in how many orders of the classes that the scores allow the own one is among the first k."""
    orders = orders_of(scores, [False] * len(scores))
    return sum(own in order[:k] for order in orders) / len(orders)


def plain_class_mean(
    query: Rows, support: Rows, labels: Sequence[str], support_labels: Sequence[str]
) -> list[float]:
    """Compare each query with the mean unit row of each class; NaN for a label without a class."""
    classes = sorted(set(support_labels))
    means = []
    for name in classes:
        own = [unit_row(row) for row, label in zip(support, support_labels, strict=True) if label == name]
        means.append(mean_row(own))
    found = []
    for row, label in zip(query, labels, strict=True):
        scores = [round(cosine(row, mean), 12) for mean in means]
        known = label in classes
        found.append(plain_topk_accuracy(scores, classes.index(label), 1) if known else math.nan)
    return found


def neighbour_sets(query: int, rows: Rows, left_out: set[int], k: int) -> list[set[int]]:
    """List the sets of k nearest rows that the cosines, rounded to 12 digits, allow."""
    items = [item for item in range(len(rows)) if item not in left_out]
    scores = [round(cosine(rows[query], rows[item]), 12) for item in items]
    return [{items[place] for place in order[:k]} for order in orders_of(scores, [False] * len(items))]


def plain_modality_mixing(image: Rows, text: Rows, k: int, paired: bool) -> float:
    rows = [*image, *text]
    ratios = []
    for query in range(len(rows)):
        is_image = query < len(image)
        left_out = {query}
        if paired:
            left_out.add(query + len(image) if is_image else query - len(image))
        others = [
            item for item in range(len(rows)) if item not in left_out and (item < len(image)) != is_image
        ]
        sets = neighbour_sets(query, rows, left_out, k)
        share = sum(len(found & set(others)) for found in sets) / len(sets) / k
        ratios.append(share / (len(others) / (len(rows) - len(left_out))) if others else 0.0)
    return math.fsum(ratios) / len(ratios)


def plain_mutual_knn(x: Rows, y: Rows, k: int) -> float:
    shares = []
    for query in range(len(x)):
        first, second = (neighbour_sets(query, rows, {query}, k) for rows in (x, y))
        shared = [len(a & b) for a, b in itertools.product(first, second)]
        shares.append(sum(shared) / len(shared) / k)
    return math.fsum(shares) / len(shares)


def plain_cycle_knn(x: Rows, y: Rows, k: int) -> float:
    """Go to a neighbour in the second space and on in the first, over every choice that ties allow."""
    lists = [[neighbour_sets(item, rows, {item}, k) for item in range(len(rows))] for rows in (x, y)]
    shares = []
    for item in range(len(x)):
        chances = []
        for there in lists[1][item]:
            lost = 1.0
            for neighbour in there:  # the orders of ties in other rows are drawn apart
                backs = lists[0][neighbour]
                lost *= sum(item not in back for back in backs) / len(backs)
            chances.append(1 - lost)
        shares.append(math.fsum(chances) / len(chances))
    return math.fsum(shares) / len(shares)


def released_neighbours(rows: Rows, k: int) -> list[list[int]]:
    """List k neighbours as minyoungg/platonic-rep does: metrics.py, compute_nearest_neighbors."""
    return [
        sorted(
            (other for other in range(len(rows)) if other != item), key=lambda o: -dot(rows[item], rows[o])
        )[:k]
        for item in range(len(rows))
    ]


def released_cycle_knn(a: Rows, b: Rows, k: int) -> float:
    """Ask whether an item is a neighbour, in A, of a neighbour in B: platonic-rep, metrics.py, cycle_knn."""
    in_a, in_b = released_neighbours(a, k), released_neighbours(b, k)
    right = [any(item in in_a[neighbour] for neighbour in in_b[item]) for item in range(len(a))]
    return sum(right) / len(right)


def released_cknna(a: Rows, b: Rows, k: int, guard: float = 1e-6) -> float:
    """Align masked inner products as minyoungg/platonic-rep does: metrics.py, cknna and hsic_unbiased."""
    count = len(a)
    everywhere = [(i, j) for i in range(count) for j in range(count)]

    def masked(rows: Rows, first: list[list[int]], second: list[list[int]]) -> dict[tuple[int, int], float]:
        return {
            (i, j): dot(rows[i], rows[j]) if j in first[i] and j in second[i] else 0.0 for i, j in everywhere
        }

    def unbiased(k_hat: dict[tuple[int, int], float], l_hat: dict[tuple[int, int], float]) -> float:
        traced = math.fsum(k_hat[i, j] * l_hat[j, i] for i, j in everywhere)
        sums = math.fsum(k_hat.values()) * math.fsum(l_hat.values()) / ((count - 1) * (count - 2))
        product = math.fsum(k_hat[i, m] * l_hat[m, j] for i, j in everywhere for m in range(count))
        return (traced + sums - 2 * product / (count - 2)) / (count * (count - 3))

    near = {"a": released_neighbours(a, k), "b": released_neighbours(b, k)}
    both = unbiased(masked(a, near["a"], near["b"]), masked(b, near["a"], near["b"]))
    own_a, own_b = (masked(rows, near[name], near[name]) for name, rows in (("a", a), ("b", b)))
    return both / (math.sqrt(unbiased(own_a, own_a) * unbiased(own_b, own_b)) + guard)


def plain_cka(x: Rows, y: Rows) -> float:
    """Compare centred Gram matrices entry by entry."""

    def gram(rows: Rows) -> list[float]:
        centre = mean_row(rows)
        centred = [[value - c for value, c in zip(row, centre, strict=True)] for row in rows]
        return [dot(a, b) for a in centred for b in centred]

    first, second = gram(x), gram(y)
    return dot(first, second) / (math.hypot(*first) * math.hypot(*second))


def plain_unbiased_cka(x: Rows, y: Rows) -> float:
    """Compare Gram matrices by the mean over all sets of four items, which is the estimator's definition."""

    def kernel(a: Rows, b: Rows) -> float:
        total = []
        for i, j, q, r in itertools.permutations(range(len(a)), 4):
            first = dot(a[i], a[j])
            total.append(first * (dot(b[i], b[j]) + dot(b[q], b[r]) - 2 * dot(b[i], b[q])))
        return math.fsum(total) / len(total)

    return kernel(x, y) / math.sqrt(kernel(x, x) * kernel(y, y))


def plain_overlap(same: Sequence[float], other: Sequence[float], bins: int) -> tuple[float, float]:
    """Give shared mass and intersection over union of two histograms; scores are read as exact fractions."""
    low, high = min(*same, *other), max(*same, *other)

    def counts(scores: Sequence[float]) -> Counter[int]:
        if high == low:
            return Counter([0] * len(scores))
        width = (Fraction(high) - Fraction(low)) / bins
        return Counter(min(bins - 1, (Fraction(score) - Fraction(low)) // width) for score in scores)

    p, q = counts(same), counts(other)
    shares = [(p[b] / len(same), q[b] / len(other)) for b in range(bins)]
    shared = math.fsum(min(pair) for pair in shares)
    return shared, shared / math.fsum(max(pair) for pair in shares)


def released_relative_modality_gap(image: Rows, text: Rows) -> float:
    """Relate distances as lmb-freiburg/two-effects-one-trigger does: analysis/gap_precompute.py, compute_rmg.

    Each cosine is moved to [0, 1] and turned over; the diagonal is left out; a distance within pairs that is
    not above 0 becomes 0.001, and no other.
    """

    def flipped(similarity: float) -> float:
        return 1 - (similarity + 1) / 2

    def inner(rows: Rows) -> float:
        similarities = [dot(a, b) for a, b in itertools.permutations(rows, 2)]
        return flipped(math.fsum(similarities) / len(similarities))

    matching = flipped(math.fsum(dot(i, t) for i, t in zip(image, text, strict=True)) / len(image))
    if not matching > 0:
        matching = 1e-3
    return matching / (matching + (inner(image) + inner(text)) / 2)


def plain_d_prime(same: Sequence[float], other: Sequence[float]) -> float:
    def moments(scores: Sequence[float]) -> tuple[float, float]:
        mean = math.fsum(scores) / len(scores)
        return mean, math.fsum((score - mean) ** 2 for score in scores) / len(scores)

    (m1, v1), (m2, v2) = moments(same), moments(other)
    return (m1 - m2) / math.sqrt((v1 + v2) / 2)


def plain_v_measure(classes: Sequence[str], clusters: Sequence[int]) -> float:
    """Combine homogeneity and completeness from counted entropies."""
    homogeneity, completeness = plain_homogeneity(classes, clusters), plain_homogeneity(clusters, classes)
    total = homogeneity + completeness
    return 0.0 if total == 0 else 2 * homogeneity * completeness / total


def plain_homogeneity(classes: Sequence[object], clusters: Sequence[object]) -> float:
    """Give the share of the entropy of the classes that is gone once the cluster is known."""

    def entropy(values: Sequence[object]) -> float:
        return -math.fsum(n / len(values) * math.log(n / len(values)) for n in Counter(values).values())

    of_classes = entropy(classes)
    left = entropy(list(zip(classes, clusters, strict=True))) - entropy(clusters)
    return 1.0 if of_classes == 0 else 1 - left / of_classes


def released_nmi(classes: Sequence[str], clusters: Sequence[int]) -> float:
    """Divide mutual information by the mean entropy: scikit-learn's default, as ispamm/ModGap, metrics.py."""
    count = len(classes)
    n_class, n_cluster = Counter(classes), Counter(clusters)
    shared = math.fsum(
        both / count * math.log(both * count / (n_class[name] * n_cluster[number]))
        for (name, number), both in Counter(zip(classes, clusters, strict=True)).items()
    )
    entropies = [
        -math.fsum(n / count * math.log(n / count) for n in sizes.values()) for sizes in (n_class, n_cluster)
    ]
    return shared / (sum(entropies) / 2)


def plain_adjusted_rand(classes: Sequence[str], clusters: Sequence[int]) -> float:
    """Compare the two partitions pair of items by pair of items."""
    pairs = list(itertools.combinations(range(len(classes)), 2))
    in_class = [classes[a] == classes[b] for a, b in pairs]
    in_cluster = [clusters[a] == clusters[b] for a, b in pairs]
    both = sum(a and b for a, b in zip(in_class, in_cluster, strict=True))
    expected = sum(in_class) * sum(in_cluster) / len(pairs)
    highest = (sum(in_class) + sum(in_cluster)) / 2
    return 1.0 if highest == expected else (both - expected) / (highest - expected)


def plain_cluster_jackknife(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Give the delete-one-cluster standard error of a mean."""
    names = sorted(set(clusters))
    left_out = []
    for name in names:
        kept = [value for value, cluster in zip(values, clusters, strict=True) if cluster != name]
        left_out.append(math.fsum(kept) / len(kept))
    centre = math.fsum(left_out) / len(left_out)
    spread = math.fsum((value - centre) ** 2 for value in left_out)
    return math.sqrt((len(names) - 1) / len(names) * spread)


def plain_gap_shift(rows: Rows, own: Rows, other: Rows, strength: float) -> list[list[float]]:
    gap = [a - b for a, b in zip(mean_row(own), mean_row(other), strict=True)]
    return [unit_row([value - strength * g for value, g in zip(row, gap, strict=True)]) for row in rows]


def released_isoclip(own_DW: Tensor, other_DV: Tensor, top: int, bottom: int) -> Tensor:
    """Replace the first projector as simomagi/IsoCLIP does: src/retrieval.py, apply_iso.

    The bottom counts from the number of singular values, which is the smaller width.
    """
    left, strengths, _ = torch.linalg.svd(own_DW.T @ other_DV, full_matrices=False)
    kept = [left[:, place] for place in range(top, len(strengths) - bottom)]
    return own_DW @ sum(torch.outer(direction, direction) for direction in kept)


def plain_published_loop(
    scores: Sequence[Sequence[float]], query_labels: Sequence[str], gallery_labels: Sequence[str]
) -> list[float]:
    """AP@R as the published evaluation counts it: relevant items are counted with the query among them."""
    found = []
    for q, row in enumerate(scores):
        counted = sum(label == query_labels[q] for label in gallery_labels)  # the query itself among them
        order = sorted((g for g in range(len(row)) if g != q), key=lambda g: -row[g])
        right = [gallery_labels[g] == query_labels[q] for g in order]
        total, hits, gained = sum(right), 0, 0.0
        for rank, hit in enumerate(right[:counted], start=1):
            hits += hit
            gained += hit * hits / rank
        found.append(gained / total if total else math.nan)
    return found


def sorted_metrics(scores_QG: Tensor, relevance: Relevance, ks: Sequence[int]) -> dict[str, Tensor]:
    """Compute :func:`crossgap.metrics.retrieval.retrieval_metrics` from whole sorted lists."""
    values: dict[str, Tensor] = {}
    for numbers_Q, ranking in rankings(scores_QG, relevance):
        for name, found_Q in _from_ranking(ranking, ks).items():
            values.setdefault(name, scores_QG.new_full((len(scores_QG),), torch.nan, dtype=torch.float64))
            values[name][numbers_Q] = found_Q
    return values


def _from_ranking(ranking: Ranking, ks: Sequence[int]) -> dict[str, Tensor]:
    relevant_Q = torch.where(ranking.relevant_Q > 0, ranking.relevant_Q, torch.nan).double()
    rank_G = torch.arange(1, ranking.chance_QG.shape[1] + 1, device=relevant_Q.device)
    first_R_QG = rank_G <= ranking.relevant_Q[:, None]
    gained_QG = ranking.chance_QG * ranking.precision_QG
    found = {
        "mAP": gained_QG.sum(dim=1) / relevant_Q,
        "mAP@R": (gained_QG * first_R_QG).sum(dim=1) / relevant_Q,
        "R-precision": (ranking.chance_QG * first_R_QG).sum(dim=1) / relevant_Q,
    }
    for k in ks:
        found[f"hit@{k}"] = torch.where(relevant_Q.isnan(), torch.nan, 1 - ranking.miss_QG[:, :k].prod(dim=1))
        found[f"recall@{k}"] = ranking.chance_QG[:, :k].sum(dim=1) / relevant_Q
    return found


def published_metrics(
    query_QD: Tensor, gallery_GD: Tensor, relevant_QG: Tensor, *, ks: Sequence[int]
) -> dict[str, Tensor]:
    """Evaluate query by query as the paper's published code does, on scores shifted above 0.

    Its average precision is torchmetrics', which drops relevant items of a score that is not positive.
    """
    found: dict[str, list[float]] = {}
    for query_D, relevant_G in zip(query_QD, relevant_QG, strict=True):
        scores_G = 2 + gallery_GD @ query_D
        total = int(relevant_G.sum())
        ranked_G = relevant_G[scores_G.argsort(descending=True)].double()
        first_R = ranked_G[:total]
        precision_R = first_R.cumsum(0) / torch.arange(1, total + 1)
        values = {
            "mAP": float(retrieval_average_precision(scores_G, relevant_G)),
            "mAP@R": float((precision_R * first_R).sum() / total),
            "R-precision": float(first_R.sum() / total),
        }
        for k in ks:
            hits = relevant_G[scores_G.topk(k).indices]
            values[f"hit@{k}"] = float(hits.any())
            values[f"recall@{k}"] = float(hits.sum() / total)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in found.items()}


def neighbour_votes(
    queries: Rows, gallery: Rows, values: Sequence[str], *, k: int, temperature: float
) -> list[float]:
    """Let the k nearest other items vote, each with exp(cosine/temperature); distinct cosines alone."""
    held = []
    for own, query in enumerate(queries):
        others = [item for item in range(len(gallery)) if item != own]
        nearest = sorted(others, key=lambda item: -cosine(query, gallery[item]))[:k]
        votes: dict[str, float] = {}
        for item in nearest:
            weight = math.exp(cosine(query, gallery[item]) / temperature)
            votes[values[item]] = votes.get(values[item], 0.0) + weight
        winners = [value for value in votes if math.isclose(votes[value], max(votes.values()), rel_tol=1e-12)]
        held.append(1 / len(winners) if values[own] in winners else 0.0)
    return held


def shared_factor_table(
    queries: Rows, gallery: Rows, values: Sequence[Sequence[str]]
) -> tuple[list[list[float]], list[list[list[float]]]]:
    """List for each query its cosine to every other item, and which factors the two share."""
    cosines, shared = [], []
    for own, query in enumerate(queries):
        others = [item for item in range(len(gallery)) if item != own]
        cosines.append([cosine(query, gallery[item]) for item in others])
        shared.append([[float(of[own] == of[item]) for of in values] for item in others])
    return cosines, shared


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Correlate mid-ranks, NaN where one side is constant."""

    def ranks(numbers: Sequence[float]) -> list[float]:
        return [
            sum(other < number for other in numbers) + (sum(other == number for other in numbers) + 1) / 2
            for number in numbers
        ]

    first, second = ranks(a), ranks(b)
    middle = (len(a) + 1) / 2
    products = math.fsum((u - middle) * (v - middle) for u, v in zip(first, second, strict=True))
    lengths = [math.fsum((u - middle) ** 2 for u in side) for side in (first, second)]
    return products / math.sqrt(lengths[0] * lengths[1]) if all(lengths) else math.nan
