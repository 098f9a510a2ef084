"""Classify images by logistic regression on the features of labelled ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crossgap.errors import InputError
from crossgap.metrics.similarity import check_sides
from crossgap.probes.class_mean import own_class_hits

# Inverse penalties to choose among, and the one without a choice. CLIP's released example takes .316 on
# features of its own length, about 10 for its ViTs; unit rows are ten times shorter, which C undoes squared.
STRENGTHS = (0.316, 3.16, 31.6, 316.0, 3160.0)
PRESET_STRENGTH = 31.6
MOST_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A linear classifier: ``score_k = <w_k, x> + b_k``.

    ``converged`` is False where the solver stopped after :data:`MOST_STEPS` steps.

    Shape: weights (K, D), biases (K,), K names.
    """

    weight_KD: Tensor
    bias_K: Tensor
    classes: tuple[str, ...]
    converged: bool


def fit_linear_probe(support_ND: Tensor, support_labels: Sequence[str], *, strength: float) -> LinearProbe:
    """Fit multinomial logistic regression with an L2 penalty.

    ``min_W,b 1/2 |W|^2 + C sum_n -log softmax(W x_n + b)[y_n]``, C = ``strength``, the bias free, by L-BFGS
    from zero (scikit-learn), in float64: the same rows give the same classifier. With two classes it is
    binary logistic regression. Features are taken as they are, neither centred nor scaled. [0] Radford et
    al., 2021, arXiv 2103.00020, section 3.2 (L-BFGS, at most 1000 steps).

    Shape: (N, D), N labels -> weights (K, D), biases (K,), K classes in sorted order. Unit: logits. Range:
    (-inf, inf); higher is surer.

    Raises:
        InputError: numbers that do not fit, one class alone, values that are not finite, or a strength that
            is not positive.
    """
    from sklearn.exceptions import ConvergenceWarning  # here, as scikit-learn takes a second to import
    from sklearn.linear_model import LogisticRegression

    if support_ND.ndim != 2 or len(support_labels) != len(support_ND):
        raise InputError(
            f"each row needs one label: features {tuple(support_ND.shape)}, {len(support_labels)} labels"
        )
    if len(set(support_labels)) < 2:
        raise InputError("a linear probe needs at least two classes")
    if not strength > 0:
        raise InputError(f"{strength=} must be above 0")
    if not bool(torch.isfinite(support_ND).all()):
        raise InputError("a linear probe needs finite features; look for a diverged model")
    classifier = LogisticRegression(C=strength, max_iter=MOST_STEPS)
    with warnings.catch_warnings():  # told by ``converged``
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(support_ND.detach().cpu().double().numpy(), list(support_labels))
    weight_KD, bias_K = torch.from_numpy(classifier.coef_), torch.from_numpy(classifier.intercept_)
    if len(classifier.classes_) == 2:  # one logit, of the second class
        weight_KD, bias_K = (torch.cat([-part, part]) / 2 for part in (weight_KD, bias_K))
    return LinearProbe(
        weight_KD=weight_KD,
        bias_K=bias_K,
        classes=tuple(str(name) for name in classifier.classes_),
        converged=int(classifier.n_iter_.max()) < MOST_STEPS,
    )


def linear_probe_accuracy(probe: LinearProbe, query_QD: Tensor, *, labels: Sequence[str]) -> Tensor:
    """Say for each query whether the classifier gives its own class the highest score.

    ``hit@1 = 1 if argmax_k <w_k, x> + b_k = label``; under ties the expectation over their random order.
    [0] Radford et al., 2021, arXiv 2103.00020, section 3.2.

    Shape: a probe of K classes, (Q, D), Q labels -> (Q,), float64, NaN for a query whose class the probe does
    not know. Unit: fraction. Range: [0, 1]; higher is better; chance is 1/K.

    Raises:
        InputError: widths or numbers that do not fit.
    """
    check_sides(query_QD, probe.weight_KD)
    scores_QK = query_QD.detach().cpu().double() @ probe.weight_KD.T + probe.bias_K
    return own_class_hits(scores_QK, labels, probe.classes)
