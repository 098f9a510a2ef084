"""How well a linear classifier tells the modalities apart."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.similarity import check_sides


class ModalityProbe(NamedTuple):
    """What a linear classifier of the modality reaches on pairs that it has not seen."""

    accuracy: Tensor  # 0-d; range [0, 1]; 1 = disjoint, 0.5 = mixed
    auc: Tensor  # area under the ROC curve, 0-d; range [0, 1]; 1 = disjoint, 0.5 = mixed
    margin: Tensor  # mean signed distance from the boundary, in root mean squares, 0-d; 0 = mixed


def modality_probe(
    image_BD: Tensor, text_BD: Tensor, *, seed: int, num_features: int | None = None
) -> ModalityProbe:
    """Fit a linear classifier of the modality and test it on other pairs.

    A logistic regression (L2, C = 1), image against text, fitted on 80 % of the pairs and tested on the other
    20 %. [0] Fahim, Murphy and Fyshe, 2024, arXiv 2405.18570. The split is by pair: both parts hold as many
    images as texts, and no test item has its partner among the training items. Features are centred and
    divided by one number, the training part's root mean square, so that the penalty depends on neither scale
    nor rotation. Accuracy saturates at 1 for released models: the margin and, with ``num_features``, the
    probe on the few features whose training means differ most go on telling models apart (few dimensions
    carry the gap: [1] Schrodi et al., 2024, arXiv 2404.07983). Not differentiable.

    Shape: (B, D), (B, D) -> three 0-d, float64. Unit: fraction, fraction, root mean squares of a feature.
    Range: [0, 1], [0, 1], (-inf, inf); higher is more separate.

    Raises:
        InputError: shapes that do not pair, fewer than five pairs, values that are not finite, or a number of
            features outside 1 ... D.
    """
    from sklearn.linear_model import (
        LogisticRegression,
    )  # here, as training needs the penalties of crossgap.metrics.gap only
    from sklearn.metrics import roc_auc_score

    check_sides(image_BD, text_BD, paired=True)
    n_pairs, width = image_BD.shape
    if n_pairs < 5:
        raise InputError(f"an 80/20 split needs at least five pairs, got {n_pairs}")
    if num_features is not None and not 1 <= num_features <= width:
        raise InputError(f"{num_features=} must lie between 1 and the width {width}")
    both_2BD = torch.stack([image_BD.detach(), text_BD.detach()]).cpu().double()
    if not bool(torch.isfinite(both_2BD).all()):
        raise InputError("linear separability needs finite embeddings; look for a diverged model")
    order_B = torch.randperm(n_pairs, generator=torch.Generator().manual_seed(seed))
    test_B, train_B = order_B[: n_pairs // 5], order_B[n_pairs // 5 :]
    if num_features is not None:
        apart_D = both_2BD[0, train_B].mean(0) - both_2BD[1, train_B].mean(0)
        both_2BD = both_2BD[:, :, apart_D.abs().topk(num_features).indices]
    centred_2BD = both_2BD - both_2BD[:, train_B].mean(dim=(0, 1))
    scale = centred_2BD[:, train_B].square().mean().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    scaled_2BD = centred_2BD / scale

    def part(rows_B: Tensor) -> tuple[Tensor, Tensor]:
        return scaled_2BD[:, rows_B].flatten(0, 1), torch.tensor([0, 1]).repeat_interleave(len(rows_B))

    train_ND, train_modality_N = part(train_B)
    test_ND, test_modality_N = part(test_B)
    classifier = LogisticRegression(C=1.0, max_iter=1000).fit(train_ND.numpy(), train_modality_N.numpy())
    guess_N = torch.from_numpy(classifier.predict(test_ND.numpy()))
    score_N = torch.from_numpy(classifier.decision_function(test_ND.numpy()))
    slope = float(torch.from_numpy(classifier.coef_).norm())
    signed_N = score_N * (2 * test_modality_N - 1) / slope if slope > 0 else torch.zeros_like(score_N)
    return ModalityProbe(
        (guess_N == test_modality_N).double().mean(),
        torch.tensor(float(roc_auc_score(test_modality_N.numpy(), score_N.numpy())), dtype=torch.float64),
        signed_N.mean(),
    )
