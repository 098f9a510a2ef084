"""The objectives of authors' released code, written anew from what it computes, one number after the other.

Where a paper and its code disagree, a term follows the code; these are what it is held against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.reference_terms import Row, Rows, contrast, dot, log_softmax


def released_alignclip(
    image: Rows, text: Rows, captions: Rows | None, temperature: float, alpha: float = 1.0, beta: float = 0.5
) -> float:
    """Compute the total of sarahESL/AlignCLIP, ``align_clip/loss.py``, ``ClipInModalityLoss.forward``.

    alpha (CE_i + CE_t) + beta (sep_i + sep_t): both directions of the CLIP loss are summed, not halved. With
    ``captions`` each cosine within a modality is multiplied by one minus that of the captions, and the pair's
    cosine added on the diagonal; without, the diagonal is the cosine of an item with itself.
    """
    within = 0.0
    for own in (image, text):
        for j, row in enumerate(own):
            scores = []
            for k, other in enumerate(own):
                score = dot(row, other)
                if captions is not None:
                    alike = dot(captions[j], captions[k]) / (
                        math.hypot(*captions[j]) * math.hypot(*captions[k])
                    )
                    score = score * (1 - alike) + (dot(image[j], text[j]) if j == k else 0)
                scores.append(score / temperature)
            within -= log_softmax(scores)[j] / len(own)
    across = contrast(image, text, temperature) + contrast(text, image, temperature)
    return alpha * across + beta * within


def released_clip_refine(image: Rows, text: Rows, noise: Rows) -> float:
    """Compute RaFA of yshinya6/clip-refine, ``updater/contrastive.py``, ``RandRegUpdater.__call__``.

    The mean squared error of each side to one normal draw, over all entries of the batch, added; weight 1.
    """
    return _mean_squared_error(image, noise) + _mean_squared_error(text, noise)


def released_vicreg(first: Rows, second: Rows) -> float:
    """Compute the loss of facebookresearch/vicreg, ``main_vicreg.py``, ``VICReg.forward`` past the projector.

    25 x mean squared error + 25 x half the variance parts of both sides + the covariance parts of both.
    """
    batch, dim = len(first), len(first[0])
    variance = covariance = 0.0
    for rows in (first, second):
        means = [math.fsum(column) / batch for column in zip(*rows, strict=True)]
        centred = [[value - mean for value, mean in zip(row, means, strict=True)] for row in rows]
        for d in range(dim):
            for e in range(dim):
                entry = math.fsum(row[d] * row[e] for row in centred) / (batch - 1)
                if d == e:
                    variance += max(0.0, 1 - math.sqrt(entry + 1e-4)) / dim / 2
                else:
                    covariance += entry**2 / dim
    return 25 * _mean_squared_error(first, second) + 25 * variance + covariance


def released_projector(weights: Sequence[Rows], norms: Sequence[tuple[Row, Row]], rows: Rows) -> Rows:
    """Apply the expander of facebookresearch/vicreg, ``main_vicreg.py``, ``Projector``, without inner biases.

    Linear layers with a batch norm (scale and shift) and ReLU after each but the last, which has no bias; a
    bias before a norm over the batch changes nothing.
    """
    for layer, weight in enumerate(weights):
        rows = [[dot(w, row) for w in weight] for row in rows]
        if layer == len(weights) - 1:
            return rows
        scales, shifts = norms[layer]
        columns = []
        for column, scale, shift in zip(zip(*rows, strict=True), scales, shifts, strict=True):
            mean = math.fsum(column) / len(column)
            spread = math.sqrt(math.fsum((value - mean) ** 2 for value in column) / len(column) + 1e-5)
            columns.append([max(0.0, scale * (value - mean) / spread + shift) for value in column])
        rows = [list(row) for row in zip(*columns, strict=True)]
    raise AssertionError("a projector has layers")


def _mean_squared_error(rows: Rows, others: Rows) -> float:
    pairs = [(u, v) for a, b in zip(rows, others, strict=True) for u, v in zip(a, b, strict=True)]
    return math.fsum((u - v) ** 2 for u, v in pairs) / len(pairs)
