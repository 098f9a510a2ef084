"""What a term of the objective is: a function of views, or a module with a state of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from crossgap.errors import InputError, check_known
from pretrain.terms.views import VIEWS

# what a term sets in relation: items of one modality, those of either by themselves, or images with texts
ActsOn = Literal["image", "text", "both", "across"]


class Setup(NamedTuple):
    """What a module is built for: the width of the image tower, of the embedding, and of the text tower.

    ``text_width`` None is that of the image tower; ``teacher_momentum`` is that of teachers.
    """

    width: int
    embed_dim: int
    teacher_momentum: float = 0.996
    text_width: int | None = None


class TermModule(nn.Module):
    """A term with parameters or buffers: ``forward`` takes the views and gives a 0-d tensor.

    Parameters are trained with the towers, by the same optimizer. ``forward`` changes nothing; what moves
    from step to step (a queue, a centre, an average of weights) does so in :meth:`after_step`.
    """

    def after_step(self, *views: Tensor) -> None:
        """Go on to the next step; ``views`` are those of this one, without gradients."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term of the objective and what it needs.

    Args:
        inputs: names of :data:`pretrain.terms.views.VIEWS`, in the order in which they are taken.
        acts_on: what it sets in relation: ``image`` or ``text`` for items or views of one modality with each
            other, ``both`` for a term that does so within either, ``across`` for images with texts. Recorded
            beside each model, so that the analysis knows which arms work within a modality.
        function: from the views to a 0-d tensor, for terms without a state.
        module: builds the term, for those with one.
        temperature: a number (the default) for a term with a temperature of its own, ``host`` for one that
            shares the model's, None for one without; passed as ``temperature``.
        weight: the default of the source.
        random: whether it draws; a generator on the CPU is passed as ``generator``.
        progress: whether it depends on how far the run is; a share in [0, 1) is passed as ``progress``.
    """

    inputs: tuple[str, ...]
    acts_on: ActsOn
    function: Callable[..., Tensor] | None = None
    module: Callable[[Setup], TermModule] | None = None
    temperature: float | Literal["host"] | None = None
    weight: float = 1.0
    random: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        assert (self.function is None) != (self.module is None), "a term is a function or a module"
        for view in self.inputs:
            check_known(view, VIEWS, "view of a term")
        check_known(self.acts_on, get_args(ActsOn), "acts_on of a term")
        sides = {self.acts_on} if self.acts_on in ("image", "text") else {"image", "text"}
        unseen = sides - {VIEWS[view].modality for view in self.inputs}
        if unseen:
            raise InputError(
                f"a term with acts_on={self.acts_on!r} and inputs {self.inputs}: it takes no view of "
                f"{' or '.join(sorted(unseen))}, so it cannot act on it; give image or text for a term of "
                "one modality, or another view"
            )
