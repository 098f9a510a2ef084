"""The objectives of authors' released code, written anew from what it computes, one number after the other.

Where a paper and its code disagree, a term follows the code; these are what it is held against.
"""

from __future__ import annotations

import math

from tests.reference_terms import Rows, contrast, dot, log_softmax


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


def _mean_squared_error(rows: Rows, others: Rows) -> float:
    pairs = [(u, v) for a, b in zip(rows, others, strict=True) for u, v in zip(a, b, strict=True)]
    return math.fsum((u - v) ** 2 for u, v in pairs) / len(pairs)
