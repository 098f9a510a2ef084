"""The terms of the objective as plain loops over numbers: slow, and easy to compare with their formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tests.reference import plain_cross_uniformity

Row = Sequence[float]
Rows = Sequence[Row]


class Call(NamedTuple):
    """One evaluation of a term: its views in order, and what it may need beside them."""

    views: Sequence[Tensor]
    temperature: float = 0.3
    progress: float = 0.4
    module: nn.Module | None = None
    generator: torch.Generator | None = None

    def rows(self) -> list[Rows]:
        """Give the views as lists."""
        return [view.tolist() for view in self.views]


def dot(a: Row, b: Row) -> float:
    return math.fsum(u * v for u, v in zip(a, b, strict=True))


def squared(a: Row, b: Row) -> float:
    return math.dist(a, b) ** 2


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def unit(row: Row) -> Row:
    return [value / math.hypot(*row) for value in row]


def log_softmax(scores: Row) -> Row:
    """Subtract the logarithm of the sum of exponentials."""
    top = max(scores)
    total = top + math.log(math.fsum(math.exp(score - top) for score in scores))
    return [score - total for score in scores]


def contrast(rows: Rows, others: Rows, temperature: float, smoothing: float = 0.0) -> float:
    """Average -log softmax at the own partner; smoothed targets give the others a share."""
    losses = []
    for k, row in enumerate(rows):
        shares = log_softmax([dot(row, other) / temperature for other in others])
        targets = [smoothing / len(others) + (1 - smoothing) * (j == k) for j in range(len(others))]
        losses.append(-dot(targets, shares))
    return mean(losses)


def plain_info_nce(call: Call, smoothing: float = 0.0) -> float:
    first, second = call.rows()
    one, two = (contrast(*pair, call.temperature, smoothing) for pair in ((first, second), (second, first)))
    return (one + two) / 2


def plain_sigmoid_loss(call: Call) -> float:
    image, text = call.rows()
    bias = call.module.bias.item()
    total = 0.0
    for j, k in itertools.product(range(len(image)), repeat=2):
        logit = dot(image[j], text[k]) / call.temperature + bias
        total += math.log1p(math.exp(-logit if j == k else logit))
    return total / len(image)


def plain_nt_xent(call: Call) -> float:
    first, second = call.rows()
    return supervised(first, second, list(range(len(first))), call.temperature)


def plain_projected_nt_xent(call: Call) -> float:
    first, second = ([unit(row) for row in plain_mlp(call.module.head, rows)] for rows in call.rows())
    return supervised(first, second, list(range(len(first))), call.temperature)


def plain_supervised_contrast(call: Call) -> float:
    first, second, _ = call.rows()
    return supervised(first, second, call.views[2].tolist(), call.temperature)


def supervised(first: Rows, second: Rows, concepts: Sequence[int], temperature: float) -> float:
    rows, names = [*first, *second], [*concepts, *concepts]
    losses = []
    for i, row in enumerate(rows):
        others = [k for k in range(len(rows)) if k != i]
        shares = log_softmax([dot(row, rows[k]) / temperature for k in others])
        losses.append(-mean([s for k, s in zip(others, shares, strict=True) if names[k] == names[i]]))
    return mean(losses)


def plain_mlp(network: nn.Sequential, rows: Rows) -> Rows:
    """Run linear layers, norms over the batch, ReLU and GELU one number after the other."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            weights = layer.weight.tolist()
            bias = [0.0] * len(weights) if layer.bias is None else layer.bias.tolist()
            rows = [[dot(w, row) + b for w, b in zip(weights, bias, strict=True)] for row in rows]
        elif isinstance(layer, nn.BatchNorm1d):
            columns = []
            for column, scale, shift in zip(
                zip(*rows, strict=True), layer.weight.tolist(), layer.bias.tolist(), strict=True
            ):
                centre = mean(column)
                spread = math.sqrt(mean([(value - centre) ** 2 for value in column]) + layer.eps)
                columns.append([scale * (value - centre) / spread + shift for value in column])
            rows = [list(row) for row in zip(*columns, strict=True)]
        elif isinstance(layer, nn.ReLU):
            rows = [[max(0.0, value) for value in row] for row in rows]
        else:
            assert isinstance(layer, nn.GELU)
            rows = [[value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in row] for row in rows]
    return rows


def plain_in_modal_consistency(call: Call) -> float:
    image, text = call.rows()
    places = itertools.product(range(len(image)), repeat=2)
    return math.fsum((dot(image[j], image[k]) - dot(text[j], text[k])) ** 2 for j, k in places) / len(image)


def plain_cross_modal_consistency(call: Call) -> float:
    image, text = call.rows()
    places = itertools.product(range(len(image)), repeat=2)
    return math.fsum((dot(image[j], text[k]) - dot(image[k], text[j])) ** 2 for j, k in places) / len(image)


def plain_intra_modal_separation(call: Call) -> float:
    image, text, *semantic = call.rows()
    total = 0.0
    for own in (image, text):
        for j, row in enumerate(own):
            unlike = [1 - dot(semantic[0][j], other) if semantic else 1.0 for other in (semantic or [own])[0]]
            scores = [
                (dot(image[j], text[j]) if k == j else dot(row, other) * unlike[k]) / call.temperature
                for k, other in enumerate(own)
            ]
            total -= log_softmax(scores)[j] / len(own)
    return total


def plain_vicreg(first: Rows, second: Rows) -> float:
    dim = len(first[0])
    invariance = mean(
        [(u - v) ** 2 for a, b in zip(first, second, strict=True) for u, v in zip(a, b, strict=True)]
    )
    variance = covariance = 0.0
    for rows in (first, second):
        table = covariances(rows)
        variance += mean([max(0.0, 1 - math.sqrt(table[d][d] + 1e-4)) for d in range(dim)]) / 2
        others = (table[d][e] for d in range(dim) for e in range(dim) if d != e)
        covariance += math.fsum(value**2 for value in others) / dim
    return 25 * invariance + 25 * variance + covariance


def plain_expanded_vicreg(call: Call) -> float:
    first, second = (plain_mlp(call.module.expander, rows) for rows in call.rows())
    return plain_vicreg(first, second)


def covariances(rows: Rows) -> Rows:
    """Compute the covariances of all pairs of columns, over one less than the rows."""
    columns = [[value - mean(column) for value in column] for column in zip(*rows, strict=True)]
    return [[dot(a, b) / (len(rows) - 1) for b in columns] for a in columns]


def plain_nearest(call: Call) -> float:
    first, second = call.rows()
    queue = call.module.queue_QD[: int(call.module.seen)].tolist()

    def nearest(row: Row) -> Row:
        return max(queue, key=lambda other: dot(row, other)) if queue else row

    one = contrast([nearest(row) for row in first], second, call.temperature)
    two = contrast([nearest(row) for row in second], first, call.temperature)
    return (one + two) / 2


def plain_self_distillation(call: Call) -> float:
    local, teacher = call.rows()
    centre = call.module.centre_P.tolist()
    losses = []
    for crops, state in zip(local, teacher, strict=True):
        (outputs,) = plain_head(call.module.teacher_head, [state])
        centred = [(o - c) / 0.04 for o, c in zip(outputs, centre, strict=True)]
        target = [math.exp(value) for value in log_softmax(centred)]
        for scores in plain_head(call.module.head, crops):
            losses.append(-dot(target, log_softmax([score / 0.1 for score in scores])))
    return mean(losses)


def plain_head(head: nn.Module, rows: Rows) -> Rows:
    prototypes = [unit(row) for row in head.prototypes_PE.tolist()]
    return [[dot(unit(row), p) for p in prototypes] for row in plain_mlp(head.mlp, rows)]


def plain_centroid_penalty(call: Call) -> float:
    image, text = ([mean(column) for column in zip(*rows, strict=True)] for rows in call.rows())
    return squared(image, text)


def plain_pair_alignment(call: Call) -> float:
    return mean([squared(i, t) for i, t in zip(*call.rows(), strict=True)])


def plain_centroid_uniformity(call: Call) -> float:
    image, text = call.rows()
    middles = [
        unit([(u + v) / 2 for u, v in zip(i, t, strict=True)]) for i, t in zip(image, text, strict=True)
    ]
    return math.log(mean([math.exp(-2 * squared(a, b)) for a, b in itertools.permutations(middles, 2)]))


def plain_in_modal_uniformity(call: Call) -> float:
    return mean([plain_cross_uniformity(rows, rows, 2) for rows in call.views])


def plain_cross_modal_uniformity(call: Call) -> float:
    return plain_cross_uniformity(*call.views, 2)


def plain_sliced_wasserstein(call: Call, directions: int = 128) -> float:
    image, text = call.rows()
    drawn = torch.randn((len(image[0]), directions), generator=call.generator, dtype=torch.float64)
    found = []
    for theta in drawn.T.tolist():
        direction = unit(theta)
        one, two = (sorted(dot(row, direction) for row in rows) for rows in (image, text))
        found += [(u - v) ** 2 for u, v in zip(one, two, strict=True)]
    return mean(found)


def plain_mmd(call: Call) -> float:
    image, text = call.rows()
    distances = sorted(math.dist(a, b) for a, b in itertools.combinations([*image, *text], 2))
    median = distances[(len(distances) - 1) // 2]

    def kernel(a: Row, b: Row) -> float:
        return mean([math.exp(-squared(a, b) / (2 * (m * median) ** 2)) for m in (1, 2, 4, 8, 16)])

    def average(rows: Rows, others: Rows) -> float:
        return mean([kernel(a, b) for a in rows for b in others])

    return average(image, image) + average(text, text) - 2 * average(image, text)


def plain_coral(call: Call) -> float:
    image, text = (covariances(rows) for rows in call.rows())
    return math.fsum(
        (u - v) ** 2 for a, b in zip(image, text, strict=True) for u, v in zip(a, b, strict=True)
    ) / (4 * len(image) ** 2)


def plain_adversarial(call: Call) -> float:
    image, text = call.rows()
    logits = [row[0] for row in plain_mlp(call.module.classifier, [*image, *text])]
    return mean([math.log1p(math.exp(-x if n < len(image) else x)) for n, x in enumerate(logits)])


def plain_rafa(call: Call) -> float:
    image, text = call.rows()
    noise = torch.randn((len(image), len(image[0])), generator=call.generator, dtype=torch.float64).tolist()
    entries = len(image) * len(image[0])
    return (
        math.fsum(squared(i, z) + squared(t, z) for i, t, z in zip(image, text, noise, strict=True)) / entries
    )


# name of the term -> its loop
PLAIN: dict[str, Callable[[Call], float]] = {
    "clip": plain_info_nce,
    "siglip": plain_sigmoid_loss,
    "clip_second_view": plain_info_nce,
    "image_ntxent": plain_nt_xent,
    "image_ntxent_head": plain_projected_nt_xent,
    "text_ntxent": plain_nt_xent,
    "text_ntxent_words": plain_nt_xent,
    "text_ntxent_dropout": plain_info_nce,
    "image_supervised": plain_supervised_contrast,
    "text_supervised": plain_supervised_contrast,
    "in_modal_consistency": plain_in_modal_consistency,
    "intra_modal_separation": plain_intra_modal_separation,
    "semantic_separation": plain_intra_modal_separation,
    "image_vicreg": plain_expanded_vicreg,
    "text_vicreg": plain_expanded_vicreg,
    "image_nearest": plain_nearest,
    "text_nearest": plain_nearest,
    "self_distillation": plain_self_distillation,
    "centroid_penalty": plain_centroid_penalty,
    "pair_alignment": plain_pair_alignment,
    "centroid_uniformity": plain_centroid_uniformity,
    "in_modal_uniformity": plain_in_modal_uniformity,
    "cross_uniformity": plain_cross_modal_uniformity,
    "cross_modal_consistency": plain_cross_modal_consistency,
    "sliced_wasserstein": plain_sliced_wasserstein,
    "mmd": plain_mmd,
    "coral": plain_coral,
    "adversarial": plain_adversarial,
    "rafa": plain_rafa,
}
