"""A study with a term of your own: what does it do to the gap and to what inversion gains, in paired seeds?

    python -m ablations.sweep --study examples/studies/own_term.py --smoke

The term is registered at the top of the file, which every process that trains runs too. Beside it stands the
penalty on the distance of the centroids: a term that closes the gap in another way.
"""

from dataclasses import replace

from torch import Tensor

from ablations.study import Arm, Study
from ablations.study.named import demo
from pretrain.configure import configure
from pretrain.labels import description_of
from pretrain.terms import TERMS, Term


def pair_cosine(image_BD: Tensor, text_BD: Tensor) -> Tensor:
    """Pull the cosine of true pairs up: 1 - mean_k <i_k, t_k>."""
    return 1 - (image_BD * text_BD).sum(dim=1).mean()


TERMS["pair_cosine"] = Term(function=pair_cosine, inputs=("image_BD", "text_BD"), acts_on="across")


def study() -> Study:
    """Does pulling true pairs together change what inversion gains?"""
    whole = demo()
    baseline = whole.arm("baseline")
    train = configure(baseline.train, {"objective.weights.pair_cosine": 0.5})
    own = Arm(
        name="pair-cosine",
        label="with the cosine of pairs",
        description=description_of(train),
        train=train,
    )
    return replace(
        whole,
        name="own-term",
        description="A term of one's own beside a penalty on the centroids.",
        arms=(baseline, whole.arm("centroid"), own),
    )
