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
