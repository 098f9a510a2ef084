"""Settings of the parts of a training: model, objective, views.

What needs torch, as the registry of terms does, is imported where a setting is checked: the command line
shows its help without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from crossgap.errors import InputError, check_known
from crossgap.settings.changes import ZERO_IS_ABSENT

if TYPE_CHECKING:
    from pretrain.terms import ActsOn

Regime = Literal["fixed", "learnable", "linear", "cosine"]


MAX_LOGIT_SCALE = 100.0  # s = 1/tau is clamped here, as in CLIP


@dataclass(frozen=True, kw_only=True)
class TemperatureConfig:
    """How the temperature tau of the host loss is set.

    ``fixed`` keeps ``initial``; ``learnable`` starts there and optimises nu = ln(1/tau), clamped to
    exp(nu) <= 100 after every step. ``rate`` multiplies the learning rate of nu: AdamW moves nu by at most
    about the learning rate a step, whatever the gradient, so a short run needs more than 1 to arrive.
    ``linear`` and ``cosine`` go from ``initial`` in the first step to ``final`` in the last, tau itself along
    a line or half a cosine; nothing about tau is learned.

    [0] Radford et al., 2021, arXiv 2103.00020, section 2.5 (learnable, initial .07).
    [1] Yaras et al., 2024, arXiv 2412.07909 (fixed ladder; a rate of .1 for nu; a linear schedule).
    """

    regime: Regime = "fixed"
    initial: float = 0.01
    rate: float = 1.0
    final: float | None = None

    def __post_init__(self) -> None:
        check_known(self.regime, get_args(Regime), "temperature regime")
        if (self.final is not None) != self.scheduled:
            raise InputError(
                f"temperature regime {self.regime!r} with final={self.final!r}: linear and cosine need a "
                "final temperature, the others have none"
            )
        for name, value in (("initial", self.initial), ("final", self.final)):
            if value is not None and not (math.isfinite(value) and value >= 1 / MAX_LOGIT_SCALE):
                raise InputError(
                    f"temperature {name}={value!r}: must be finite and at least "
                    f"{1 / MAX_LOGIT_SCALE} (the logit scale is clamped to {MAX_LOGIT_SCALE:g})"
                )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise InputError(f"temperature rate={self.rate!r}: must be finite and above 0")

    @property
    def scheduled(self) -> bool:
        """Whether tau follows a schedule over the steps."""
        return self.regime in ("linear", "cosine")

    def at(self, step: int, steps: int) -> float:
        """Return tau of a step of a schedule, counted from 0."""
        assert self.final is not None
        passed = step / max(1, steps - 1)
        left = 1 - passed if self.regime == "linear" else (1 + math.cos(math.pi * passed)) / 2
        return self.final + (self.initial - self.final) * left


@dataclass(frozen=True, kw_only=True)
class WeightSchedule:
    """When a term has its weight: times are fractions of the run.

    From ``start`` to ``stop``, rising linearly from 0 over the first ``ramp`` and falling linearly to 0 over
    the last ``fall``; outside it is 0, and the term is not computed. The default is constant. A fall is the
    mirror image of a ramp: the first step of a ramp and the last of a fall have the same, smallest share.
    """

    start: float = 0.0
    stop: float = 1.0
    ramp: float = 0.0
    fall: float = 0.0

    def __post_init__(self) -> None:
        slopes_fit = min(self.ramp, self.fall) >= 0 and self.ramp + self.fall <= self.stop - self.start + 1e-9
        if not (0 <= self.start < self.stop <= 1 and slopes_fit):
            raise InputError(
                f"start={self.start:g}, stop={self.stop:g}, ramp={self.ramp:g}, fall={self.fall:g}: must be "
                "0 <= start < stop <= 1, and ramp and fall together no longer than from start to stop"
            )

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the weight that a step has, counted from 0."""
        if not self.start <= step / steps < self.stop:
            return 0.0
        risen = 1.0 if self.ramp == 0 else (step + 1 - self.start * steps) / (self.ramp * steps)
        left = 1.0 if self.fall == 0 else (self.stop * steps - step) / (self.fall * steps)
        return min(1.0, risen, left)


_CONSTANT = WeightSchedule()


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights over :data:`pretrain.terms.TERMS`; a weight of 0 is exactly the objective without the term.

    ``temperatures`` overrides the temperature of terms that have one of their own; ``modifiers`` are
    strengths of changes to the CLIP loss; ``schedules`` say when terms have their weights;
    ``teacher_momentum`` is that of the average of the image tower's weights, for terms with a teacher.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"clip": 1.0}, metadata={ZERO_IS_ABSENT: True})
    temperature: TemperatureConfig = TemperatureConfig()
    temperatures: dict[str, float] = field(default_factory=dict)
    modifiers: dict[str, float] = field(default_factory=dict, metadata={ZERO_IS_ABSENT: True})
    schedules: dict[str, WeightSchedule] = field(default_factory=dict)
    teacher_momentum: float = 0.996

    def __post_init__(self) -> None:
        from pretrain.terms import TERMS
        from pretrain.terms.modifiers import MODIFIERS

        for name, weight in self.weights.items():
            check_known(name, TERMS, "term of the objective")
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"weight of {name}={weight!r}: must be finite and not negative")
        if not self.active:
            raise InputError(f"weights={self.weights!r}: at least one weight must be above 0")
        own = [name for name, term in TERMS.items() if isinstance(term.temperature, float)]
        for name, temperature in self.temperatures.items():
            check_known(name, own, "term with a temperature of its own")
            if not (math.isfinite(temperature) and temperature > 0):
                raise InputError(f"temperature of {name}={temperature!r}: must be finite and above 0")
        for name, strength in self.modifiers.items():
            check_known(name, MODIFIERS, "modifier of the CLIP loss")
            if not 0 <= strength <= 1:
                raise InputError(f"strength of {name}={strength!r}: must lie in [0, 1]")
            if strength > 0 and "clip" not in self.active:
                raise InputError(f"modifier {name}={strength!r} changes the CLIP loss, whose weight is 0")
        for name in self.schedules:
            check_known(name, TERMS, "term with a weight schedule")
            if name not in self.weights:
                raise InputError(
                    f"schedule of {name}: it has no weight; give it one, or leave the schedule out"
                )
        if all(self.schedules.get(name, _CONSTANT) != _CONSTANT for name in self.active):
            raise InputError(
                f"every term of {list(self.active)} has a weight schedule; leave one at its weight all the "
                "time, so that each step has something to minimise"
            )
        if not 0 <= self.teacher_momentum < 1:
            raise InputError(f"teacher_momentum={self.teacher_momentum!r}: must lie in [0, 1)")

    @property
    def active(self) -> tuple[str, ...]:
        """The terms with a weight above 0, in the order of the registry."""
        from pretrain.terms import TERMS

        return tuple(name for name in TERMS if self.weights.get(name, 0) > 0)

    def weights_at(self, step: int, steps: int) -> dict[str, float]:
        """Give the weights of one step, of the terms whose weight is above 0 there."""
        scheduled = {
            name: self.weights[name] * self.schedules.get(name, _CONSTANT).factor(step, steps)
            for name in self.active
        }
        return {name: weight for name, weight in scheduled.items() if weight > 0}

    @property
    def acts_on(self) -> dict[str, ActsOn]:
        """What each term that has a weight, be it 0, acts on."""
        from pretrain.terms import TERMS

        return {name: TERMS[name].acts_on for name in self.weights}

    @property
    def views(self) -> tuple[str, ...]:
        """The names in :data:`pretrain.terms.views.VIEWS` that active terms take."""
        return views_of(self.active)


def views_of(names: Iterable[str]) -> tuple[str, ...]:
    """Name the views that terms take, each once."""
    from pretrain.terms import TERMS

    return tuple(dict.fromkeys(view for name in names for view in TERMS[name].inputs))


Shared = Literal["nothing", "projection", "towers"]


VOCABULARY = 49408  # open_clip's SimpleTokenizer


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the two towers; both have the same width, depth and number of heads.

    ``image_size`` and ``patch_size`` are in pixels, ``context_length`` in tokens. ``shared`` says what images
    and texts have in common: nothing; the projection into the embedding; or, as in SharedCLIP, the projection
    and the transformer, with patch, token and position embeddings and the outer norms of their own.

    [0] Eslami and de Melo, AlignCLIP, 2024, arXiv 2406.17639 (SharedCLIP).
    """

    image_size: int = 32
    patch_size: int = 8
    width: int = 128
    layers: int = 4
    heads: int = 4
    embed_dim: int = 128
    context_length: int = 32
    shared: Shared = "nothing"

    def __post_init__(self) -> None:
        check_known(self.shared, get_args(Shared), "part that a model shares")
        for name, value in vars(self).items():
            if name != "shared" and value < 1:
                raise InputError(f"{name}={value!r}: must be at least 1")
        if self.image_size % self.patch_size:
            raise InputError(f"image_size={self.image_size} is no multiple of patch_size={self.patch_size}")
        if self.width % self.heads:
            raise InputError(f"width={self.width} is no multiple of heads={self.heads}")
        if self.context_length < 3:
            raise InputError(f"context_length={self.context_length}: start, end and a token between need 3")

    @property
    def open_clip(self) -> dict[str, Any]:
        """Give the sizes as open_clip's ``model_cfg``."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.width,
                "layers": self.layers,
                "head_width": self.width // self.heads,
            },
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": VOCABULARY,
                "width": self.width,
                "heads": self.heads,
                "layers": self.layers,
            },
        }

    @property
    def preprocess(self) -> dict[str, Any]:
        """Give open_clip's ``preprocess_cfg``: how an image becomes the input of the image tower."""
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        return {
            "size": [self.image_size, self.image_size],
            "mode": "RGB",
            "mean": list(OPENAI_DATASET_MEAN),
            "std": list(OPENAI_DATASET_STD),
            "interpolation": "bilinear",
            "resize_mode": "shortest",
        }


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How strongly views differ.

    ``area`` and ``ratio`` bound a crop's share of the image and its width / height. ``brightness``,
    ``contrast`` and ``saturation`` are jittered by factors in [1 - x, 1 + x]. ``flip`` is the probability of
    a mirror image: 0, because flags, arrows and letters change their meaning. ``drop_words`` is the
    probability with which a token of a caption is left out when a second caption is wanted and there is none,
    or a view with fewer words. ``local_area`` bounds the share of the ``local_views`` small crops;
    ``text_dropout`` is the probability of dropout in the text tower, for the one view that has it.
    """

    area: tuple[float, float] = (0.7, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    flip: float = 0.0
    drop_words: float = 0.1
    local_area: tuple[float, float] = (0.05, 0.4)
    local_views: int = 2
    text_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("area", "local_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise InputError(f"augment {name}={(low, high)!r}: must be 0 < low <= high <= 1")
        if self.local_views < 1:
            raise InputError(f"augment local_views={self.local_views!r}: must be at least 1")
        if not 0 <= self.text_dropout < 1:
            raise InputError(f"augment text_dropout={self.text_dropout!r}: must lie in [0, 1)")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InputError(f"augment ratio={self.ratio!r}: must be 0 < low <= high")
        for name in ("brightness", "contrast", "saturation", "flip", "drop_words"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augment {name}={getattr(self, name)!r}: must lie in [0, 1]")
