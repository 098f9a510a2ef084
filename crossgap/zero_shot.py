"""Zero-shot classification: retrieval of one class prompt among all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.relevance import Relevance
from crossgap.retrieval import retrieval_metrics
from crossgap.similarity import cosine_scores


def zero_shot_accuracy(
    image_ND: Tensor,
    prompt_KD: Tensor,
    *,
    labels: Sequence[str],
    classes: Sequence[str],
    ks: Sequence[int] = (1, 5),
) -> dict[str, Tensor]:
    """Say for every image whether its class is among the k classes whose prompts are nearest.

    ``top-k = 1 if fewer than k prompts have a higher cosine than the prompt of the own class``; under ties
    the expectation over their random order. [0] Radford et al., 2021, arXiv 2103.00020. With fewer classes
    than k every image is right.

    Shape: (N, D), (K, D), N labels, K names -> "top-k" -> (N,), float64. Unit: fraction. Range: [0, 1];
    higher is better; chance is k/K.

    Raises:
        InputError: numbers or widths that do not fit, a class named twice, a label that is no class, or a row
            without direction.
    """
    if len(labels) != len(image_ND) or len(classes) != len(prompt_KD):
        raise InputError(
            f"each image needs one label and each prompt one class: {len(image_ND)} images, {len(labels)} "
            f"labels, {len(prompt_KD)} prompts, {len(classes)} classes"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    if len(numbers) != len(classes):
        twice = next(name for number, name in enumerate(classes) if numbers[name] != number)
        raise InputError(f"class {twice!r} occurs more than once; one prompt feature a class is needed")
    unknown = next((row for row, label in enumerate(labels) if label not in numbers), None)
    if unknown is not None:
        raise InputError(
            f"image {unknown} has the label {labels[unknown]!r}, which is none of the {len(classes)} classes"
        )
    own_N = torch.tensor([numbers[label] for label in labels], dtype=torch.int64)
    relevant_NK = own_N[:, None] == torch.arange(len(classes))
    relevance = Relevance(relevant_NK, torch.zeros_like(relevant_NK))
    found = retrieval_metrics(cosine_scores(image_ND, prompt_KD), relevance, ks=ks)
    return {f"top-{k}": found[f"hit@{k}"] for k in ks}
