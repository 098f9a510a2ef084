"""Everything that decides a training run."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from crossgap.datasets.scenes.names import SIDE
from crossgap.datasets.scenes.options import SceneOptions, is_scenes
from crossgap.errors import InputError, check_known, check_seed
from pretrain.settings import AugmentConfig, ModelConfig, ObjectiveConfig

Precision = Literal["fp32", "bf16", "auto"]
Schedule = Literal["cosine", "constant"]
Loading = Literal["memory", "indexed", "resampled"]
Tower = Literal["image", "text"]

# settings that came later, with the value that a run without them had
_LATER = {
    "whole_texts": False, "architecture": None, "image_size": None, "context_length": None,
    "patch_dropout": 0.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    ``data`` is ``emoji``, a pattern of shards, or ``scenes`` with its options, which is kept under its full
    name, whatever the spelling, as is ``validation``; ``batch_size`` counts pairs; ``learning_rate`` is the
    peak, reached after ``warmup_steps`` (at most half of ``steps``) and left on a half cosine down to 0, or
    kept; ``gradient_clip`` bounds the norm of the gradient (None: not at all); ``threads`` is torch's number
    of CPU threads (None: as it is); ``precision`` ``bf16`` runs the towers under autocast,
    ``auto`` where that is faster here (a probe decides before the first step); ``stored_size`` is
    the side in pixels of the images kept in memory, from which views are cropped; ``limit`` trains on the
    first so many pairs, also of scenes that have no end; ``extra_augment`` is how views after the first are
    made (None: as the first); ``semantics`` is a file of caption embeddings (None: made from the captions'
    words), for terms that weigh by meaning; ``accumulate`` cuts a batch into so many parts that go through
    the towers one after another, with the loss of the whole batch; ``term_gradients`` logs the norm of each
    term's own gradient; ``max_bad`` samples that cannot be read are left out and named; ``whole_texts``: a
    ``.txt`` part is one caption, not one a line; ``validation`` is a
    dataset on whose validation split each checkpoint is measured.

    ``loading`` says where pairs are: decoded in memory; ``indexed``, captions in memory and images decoded
    when they are drawn, the same batches; or ``resampled``, a stream with constant memory. ``workers`` are
    the threads or processes that then decode, or that paint scenes ahead of a device that is no CPU. ``ema``
    is the decay of an average of the weights over the steps, kept beside them (None: none). ``local_loss``:
    each of several processes computes the CLIP loss of its own rows against all. ``recompute``: activations
    of the towers' blocks are computed again in the backward pass instead of kept. ``compiled``: the towers go
    through ``torch.compile``.

    ``architecture`` names a model of open_clip, or a JSON file of one, that is built with random weights in
    place of ``model``; ``image_size`` and ``context_length`` are then in place of its own.
    ``patch_dropout`` is the share of patches that a vision transformer leaves out in training.
    ``encoder`` and ``pretrained`` name a CLIP to start from, in place of ``model`` with random weights
    (fine-tuning); ``locked`` towers are not trained.
    """

    recipe: str
    data: str = "emoji"
    steps: int = 500
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 50
    gradient_clip: float | None = 1.0
    seed: int = 0
    threads: int | None = None
    device: str = "auto"
    precision: Precision = "fp32"
    stored_size: int = 64
    limit: int | None = None
    log_every: int = 10
    checkpoint_every: int = 100
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    extra_augment: AugmentConfig | None = None
    semantics: str | None = None
    accumulate: int = 1
    term_gradients: bool = False
    max_bad: int = 0
    schedule: Schedule = "cosine"
    validation: str | None = None
    loading: Loading = "memory"
    workers: int = 1
    ema: float | None = None
    local_loss: bool = False
    recompute: bool = False
    compiled: bool = False
    architecture: str | None = None
    image_size: int | None = None
    context_length: int | None = None
    patch_dropout: float = 0.0
    encoder: str | None = None
    pretrained: str | None = None
    locked: tuple[Tower, ...] = ()
    whole_texts: bool = False

    def __post_init__(self) -> None:
        check_known(self.precision, get_args(Precision), "precision")
        check_known(self.schedule, get_args(Schedule), "schedule of the learning rate")
        at_least = {"steps": 1, "batch_size": 2, "warmup_steps": 0, "log_every": 1, "checkpoint_every": 1}
        check_seed(self.seed)
        at_least |= {"workers": 0, "stored_size": 1, "threads": 1, "limit": 1, "accumulate": 1}
        for name, low in at_least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name}={value!r}: must be at least {low}")
        if self.semantics is not None and "semantic_BS" not in self.objective.views:
            raise InputError(
                f"semantics={self.semantics!r}: no term of the objective weighs by meaning; leave it out, or "
                "give one a weight (semantic_separation)"
            )
        check_known(self.loading, get_args(Loading), "way of loading")
        for tower in self.locked:
            check_known(tower, get_args(Tower), "tower to lock")
        if set(self.locked) == set(get_args(Tower)):
            raise InputError("locked: both towers; leave one to train")
        for name in ("data", "validation"):
            source = getattr(self, name)
            if source is not None and is_scenes(source):
                object.__setattr__(self, name, SceneOptions.parse(source).name)
        if is_scenes(self.data):
            self._check_scenes()
        if self.loading == "resampled":
            if self.data == "emoji" or self.limit is not None:
                raise InputError(
                    f"loading 'resampled' with data={self.data!r} and limit={self.limit!r}: it reads whole "
                    "shards of your own; give them, and no limit"
                )
            if "semantic_BS" in self.objective.views:
                raise InputError(
                    "loading 'resampled': a term of the objective compares all captions by meaning "
                    "(semantic_separation), which a stream does not know; use indexed"
                )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise InputError(f"ema={self.ema!r}: must lie in [0, 1)")
        self._check_model()
        if self.max_bad < 0:
            raise InputError(f"max_bad={self.max_bad!r}: must not be negative")
        for name in ("learning_rate", "weight_decay", "gradient_clip"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}={value!r}: must be finite and not negative")
        if self.accumulate > 1 and self.batch_size % self.accumulate:
            raise InputError(
                f"accumulate={self.accumulate}: must divide batch_size={self.batch_size} into equal parts"
            )
        if self.accumulate > 1 and self.term_gradients:
            raise InputError(
                f"term_gradients with accumulate={self.accumulate}: a term's own gradient is known only "
                "where the batch goes through the towers in one piece; leave one of them out"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas={self.betas!r}: must lie in [0, 1)")

    def _check_model(self) -> None:
        if self.pretrained is not None and self.encoder is None:
            raise InputError(f"pretrained={self.pretrained!r} without an encoder: which model are they of?")
        if self.encoder is not None and self.architecture is not None:
            raise InputError(
                f"encoder={self.encoder!r} and architecture={self.architecture!r}: a run starts from one of "
                "them; leave the other out"
            )
        if not self.builds_model and self.model.shared != "nothing":
            raise InputError(
                f"model.shared={self.model.shared!r} with {self._source}: it shares parts of the small CLIP, "
                "which is not built; leave one of them out"
            )
        for name in ("image_size", "context_length"):
            value = getattr(self, name)
            if value is not None and self.architecture is None:
                raise InputError(
                    f"{name}={value} without an architecture; the small CLIP's own is model.{name}, and a "
                    "model that exists keeps its own"
                )
        if not 0 <= self.patch_dropout < 1:
            raise InputError(f"patch_dropout={self.patch_dropout!r}: must lie in [0, 1)")
        if self.patch_dropout and self.compiled:
            raise InputError(f"patch_dropout={self.patch_dropout:g} with compiled: leave one of them out")

    @property
    def builds_model(self) -> bool:
        """Whether the small CLIP of ``model`` is what is trained."""
        return self.encoder is None and self.architecture is None

    @property
    def _source(self) -> str:
        return f"encoder={self.encoder}" if self.encoder is not None else f"architecture={self.architecture}"

    def refuse_idle(self, settings: Collection[str]) -> None:
        """Refuse settings of the small CLIP where another model is what is trained.

        Raises:
            InputError: names the first of them.
        """
        idle = [name for name in settings if name.partition(".")[0] == "model"]
        if idle and not self.builds_model:
            raise InputError(
                f"{idle[0]} with {self._source}: it sets the small CLIP, which is not built; leave it out, "
                "or change the model's own configuration (a JSON file of open_clip)"
            )

    @property
    def endless(self) -> bool:
        """Whether pairs are made as they are drawn, and none comes twice."""
        return is_scenes(self.data) and self.limit is None and SceneOptions.parse(self.data).pairs == 0

    def _check_scenes(self) -> None:
        if self.loading != "memory":
            raise InputError(
                f"loading {self.loading!r} with data={self.data!r}: scenes lie in no shards, they are "
                "painted into memory or batch by batch; leave it out"
            )
        if self.stored_size != SIDE:
            raise InputError(
                f"stored_size={self.stored_size} with data={self.data!r}: scenes have {SIDE} pixels and are "
                "kept so; leave it out"
            )
        if self.endless and self.semantics is not None:
            raise InputError(
                f"semantics={self.semantics!r} with data={self.data!r}: a file cannot hold the captions of "
                "scenes without end; leave it out (the captions' words), or train on a fixed number, as "
                "scenes:pairs=12000"
            )

    @property
    def warmed_up(self) -> int:
        """How many steps the learning rate rises: at most half of all."""
        return min(self.warmup_steps, self.steps // 2)

    def rate(self, step: int) -> float:
        """Give the learning rate of the update that follows ``step`` others."""
        warmup = self.warmed_up
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - warmup) / (self.steps - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def as_used(self) -> dict[str, Any]:
        """Give the fields that play a part, as JSON: a run that does not build ``model`` has none."""
        values = self.as_json()
        if not self.builds_model:
            del values["model"]
        return values

    def as_json(self) -> dict[str, Any]:
        """Give the fields as plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for name, default in _LATER.items():  # runs that began before there was a choice can go on
            if values[name] == default:
                del values[name]
        return values


def smoke(config: TrainConfig) -> TrainConfig:
    """Shrink a run to its smallest form: the same path in a few seconds on one core.

    Data without end stay so, and a stream of shards.
    """
    return replace(
        config,
        steps=6,
        batch_size=16,
        warmup_steps=2,
        limit=None if config.endless or config.loading == "resampled" else 64,
        log_every=2,
        checkpoint_every=3,
        model=replace(config.model, width=32, layers=2, heads=2, embed_dim=32),
    )
