"""Modality inversion: OTI (image feature -> text tower) and OVI (text feature -> image tower) as one loop.

[0] Mistretta et al., Cross the Gap, ICLR 2025, arXiv 2502.04263, Algorithm 1.
[1] Baldrati et al., SEARLE, ICCV 2023, arXiv 2303.15247 (the optimisation-based inversion that OTI follows).

Known deviations from the published code, all deliberate: the noise is drawn per item from (seed, item id)
instead of from the global generator in batch order; the loss is summed over items instead of averaged; the
arithmetic is float32 (or float64, or bfloat16 products with float32 pseudo-tokens and optimizer state)
instead of float16 with a gradient scaler. With them an item's result depends on nothing but the item, the
settings and the seed. AdamW is invariant to the scale of the loss up to its epsilon: the sum moves one
pseudo-token hardly, and several, which AdamW carries around their target, to another point of as low a loss.
Measured against the averaged loss at batch 64 and step 150, as 1 - cosine: OTI with one token below 2e-9 for
95 % of the items and at most 4e-4; with three tokens 5e-9 in the median and at most .05, the mean final loss
as good; OVI at most 3e-8 (``python -m benchmarks.run --only inversion-fidelity`` compares them).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from crossgap.encoders.blocks import UnknownTowerError
from crossgap.encoders.lean import DisagreementError, Forward, LeanImage, check_lean, lean_text, trial_tokens
from crossgap.encoders.open_clip import OpenClipEncoder
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError, check_known
from crossgap.inversion.config import GRID, Engine, InversionConfig, Target
from crossgap.inversion.optimizers import LBFGS, AdamW

# Steps between two looks at which items have reached their target cosine.
_LOOK = 10


@dataclass(frozen=True)
class Inversion:
    """Result of :func:`invert`, in the order of its items.

    features_ND: inverted features, unit rows. tokens_NKW: the pseudo-tokens that give them. losses_NS: 1 -
    cosine to the target before each update and after the last (S = steps + 1). snapshots: step ->
    features_ND then. stopped_N: the step of each item's result, ``steps`` without a target cosine.
    engine: ``lean`` or ``tower``, the forward pass that ran.
    """

    features: Tensor
    tokens: Tensor
    losses: Tensor
    snapshots: dict[int, Tensor]
    stopped: Tensor
    engine: str


def invert(
    encoder: Encoder,
    targets_ND: Tensor,
    *,
    into: Target,
    config: InversionConfig,
    item_ids: Sequence[str],
    snapshots: Sequence[int] = (),
    engine: Engine = "auto",
    compiled: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Inversion:
    """Find pseudo-tokens whose feature in the other modality matches each target.

    Minimises L = sum_n (1 - cos(target_n, g(v_n))) over v_n in R^{K x W}, v_n ~ N(0, init_std^2).
    ``into="text"`` is OTI: g runs the text tower on ``config.template`` with v_n in place of ``{}``.
    ``into="image"`` is OVI: g runs the vision transformer on v_n stretched over its patches by
    nearest-neighbour interpolation along the flattened patch index.

    Args:
        targets_ND: features to match; rows need not have unit length.
        item_ids: one unique id per target; with ``config.seed`` it fixes the item's noise.
        snapshots: steps (0 is the untrained start) whose features are kept; one run of n steps holds every
            shorter run.
        engine: ``lean`` computes nothing constant twice (:mod:`crossgap.encoders.lean`), ``tower`` runs the
            encoder's own forward pass, ``auto`` is lean where the tower allows it.
        compiled: run the forward pass through ``torch.compile``; worth its minutes of compilation for many
            items on a GPU only (written for CUDA, not run on one yet).
        progress: called with the number of items finished after each batch.

    Raises:
        InputError: ids missing or repeated, a snapshot outside 0..steps, a target that is zero or not finite,
            more pseudo-patches than patches, an encoder without patches for OVI, ``lean`` asked of a tower
            that does not allow it, or a loss that becomes infinite or NaN.
    """
    (result,) = invert_grid(
        encoder,
        targets_ND,
        into=into,
        configs=[config],
        item_ids=item_ids,
        snapshots=snapshots,
        engine=engine,
        compiled=compiled,
        progress=progress,
    )
    return result


def invert_grid(
    encoder: Encoder,
    targets_ND: Tensor,
    *,
    into: Target,
    configs: Sequence[InversionConfig],
    item_ids: Sequence[str],
    snapshots: Sequence[int] = (),
    engine: Engine = "auto",
    compiled: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Inversion]:
    """Invert the same targets under several settings as one batch; arguments as of :func:`invert`.

    Settings may differ in :data:`GRID`. Each result is what its own run gives, within rounding: in float64
    1e-8 after 150 steps of AdamW or 20 of L-BFGS, in float32 as closely as another batch size. In items that
    have nearly reached their target rounding grows, and no two ways of computing stay as close.

    Returns:
        one result per setting, in their order.

    Raises:
        InputError: as :func:`invert`, or settings that differ in anything else.
    """
    inverter = Inverter(encoder, into=into, configs=configs, engine=engine, compiled=compiled)
    return inverter.run(targets_ND, item_ids=item_ids, snapshots=snapshots, progress=progress)


class Inverter:
    """Inversion under some settings, made ready once for many calls of :meth:`run`.

    Reads the prompt's prefix, checks the lean pass and compiles: what :func:`invert_grid` does at each call.
    Arguments as of :func:`invert_grid`.

    Raises:
        InputError: settings that do not go together or with the encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        into: Target,
        configs: Sequence[InversionConfig],
        engine: Engine = "auto",
        compiled: bool = False,
    ) -> None:
        check_known(into, get_args(Target), "modality to invert into")
        check_known(engine, get_args(Engine), "engine")
        _check_settings(encoder, into, configs)
        self._encoder = encoder
        self._configs = configs
        counts = dict.fromkeys(config.num_tokens for config in configs)
        self._grouped = [[config for config in configs if config.num_tokens == count] for count in counts]
        self._forward, self._engine = _forward(encoder, into, [group[0] for group in self._grouped], engine)
        if compiled:
            self._forward = torch.compile(self._forward, dynamic=False)
        self._width = encoder.text_width if into == "text" else encoder.image_width

    def run(
        self,
        targets_ND: Tensor,
        *,
        item_ids: Sequence[str],
        snapshots: Sequence[int] = (),
        progress: Callable[[int], None] | None = None,
    ) -> list[Inversion]:
        """Invert targets under every setting; arguments and errors about items as of :func:`invert`."""
        first = self._configs[0]
        _check_items(targets_ND, item_ids, snapshots, first.steps)
        wanted = frozenset(snapshots)
        by_config: dict[InversionConfig, list[_Items]] = {config: [] for config in self._configs}
        for start in range(0, len(item_ids), first.batch_size):
            ids = item_ids[start : start + first.batch_size]
            targets_BD = targets_ND[start : start + len(ids)].to(self._encoder.device, self._encoder.dtype)
            targets_BD = F.normalize(targets_BD, dim=-1)
            groups = [_Group(group, ids, targets_BD, self._width, wanted) for group in self._grouped]
            _descend(self._forward, groups, first.steps)
            for group, members in zip(groups, self._grouped, strict=True):
                for config, rows in zip(members, group.per_setting(), strict=True):
                    _check_finite(rows.losses, ids, config)
                    by_config[config].append(rows)
            if progress is not None:
                progress(len(ids))
        return [
            Inversion(
                features=torch.cat([rows.features for rows in by_config[config]]),
                tokens=torch.cat([rows.tokens for rows in by_config[config]]),
                losses=torch.cat([rows.losses for rows in by_config[config]]),
                snapshots={
                    step: torch.cat([rows.snapshots[step] for rows in by_config[config]])
                    for step in sorted(wanted)
                },
                stopped=torch.cat([rows.stopped for rows in by_config[config]]),
                engine=self._engine,
            )
            for config in self._configs
        ]


def initial_tokens(item_ids: Sequence[str], config: InversionConfig, width: int) -> Tensor:
    """Draw noise_BKW ~ N(0, init_std^2), each item from its own generator keyed by (seed, item id)."""
    rows = []
    for item_id in item_ids:
        digest = hashlib.sha256(f"{config.seed}:{item_id}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        rows.append(torch.randn(config.num_tokens, width, generator=generator))
    return torch.stack(rows) * config.init_std


def _check_items(targets_ND: Tensor, item_ids: Sequence[str], snapshots: Sequence[int], steps: int) -> None:
    if len(item_ids) != len(targets_ND) or len(set(item_ids)) != len(item_ids) or not item_ids:
        raise InputError(
            f"inversion needs one unique id per target: {len(targets_ND)} targets, {len(item_ids)} ids, "
            f"{len(set(item_ids))} distinct"
        )
    bad = [
        item
        for item, norm in zip(item_ids, targets_ND.norm(dim=1).tolist(), strict=True)
        if not 0 < norm < 1e30
    ]
    if bad:
        raise InputError(f"{len(bad)} targets are zero or not finite, the first is {bad[0]!r}")
    outside = [step for step in snapshots if not 0 <= step <= steps]
    if outside:
        raise InputError(f"snapshot steps {outside} lie outside 0..{steps} (steps)")


def _check_settings(encoder: Encoder, into: Target, configs: Sequence[InversionConfig]) -> None:
    if not configs or len(set(configs)) != len(configs):
        raise InputError(
            f"a grid needs distinct settings, not {len(configs)} with {len(set(configs))} distinct"
        )
    first = asdict(configs[0])
    for name in first.keys() - set(GRID):
        values = {str(getattr(config, name)) for config in configs}
        if len(values) > 1:
            raise InputError(
                f"the settings of one grid may differ in {', '.join(GRID)}, not in {name}: {sorted(values)}"
            )
    most = max(config.num_tokens for config in configs)
    if into == "image" and most > encoder.num_patches:
        raise InputError(f"num_tokens {most} exceeds the {encoder.num_patches} patches of the image tower")


def _check_finite(losses_BS: Tensor, item_ids: Sequence[str], config: InversionConfig) -> None:
    bad_BS = ~losses_BS.isfinite()
    if bool(bad_BS.any()):
        item, step = (int(place) for place in bad_BS.nonzero()[0])
        raise InputError(
            f"inversion of {item_ids[item]!r}: the loss is not finite at step {step} with learning_rate "
            f"{config.learning_rate}; lower the learning rate"
        )


def _forward(
    encoder: Encoder, into: Target, configs: Sequence[InversionConfig], engine: Engine
) -> tuple[Forward, str]:
    """Return the forward pass over groups of pseudo-tokens, one group per config, and its name."""
    if into == "text":
        prompts = [encoder.prompt(config.template, config.num_tokens) for config in configs]

        def tower(pseudo: Sequence[Tensor]) -> list[Tensor]:
            pairs = zip(prompts, pseudo, strict=True)
            return [encoder.encode_text_with(prompt, tokens) for prompt, tokens in pairs]
    else:
        num_patches = encoder.num_patches

        def tower(pseudo: Sequence[Tensor]) -> list[Tensor]:
            return [encoder.encode_image_with(stretch(tokens, num_patches)) for tokens in pseudo]

    if engine == "tower":
        return tower, "tower"
    try:
        if not isinstance(encoder, OpenClipEncoder):
            raise UnknownTowerError(f"it is of type {type(encoder).__name__}")
        width = encoder.text_width if into == "text" else encoder.image_width
        trial = trial_tokens([(config.num_tokens, width) for config in configs], encoder)
        with torch.no_grad():  # before the lean pass copies weights, so that the two peaks do not add up
            expected = tower(trial)
        if into == "text":
            lean = lean_text(encoder, prompts)
        else:
            lean = LeanImage(encoder, lambda tokens: stretch(tokens, num_patches))
        check_lean(lean, trial, expected, encoder)
        return lean, "lean"
    except UnknownTowerError as reason:
        if engine == "lean":
            raise InputError(
                f"engine 'lean' is not possible for encoder {encoder.name!r} into {into}: {reason}; use "
                "engine 'auto' or 'tower'"
            ) from reason
        if isinstance(reason, DisagreementError):
            warnings.warn(
                f"encoder {encoder.name!r} into {into}: {reason}; the tower itself runs", stacklevel=5
            )
        return tower, "tower"


def stretch(tokens_BKW: Tensor, num_patches: int) -> Tensor:
    """Repeat K pseudo-patches to ``num_patches`` contiguous raster bands (nearest-neighbour) [0]."""
    return F.interpolate(tokens_BKW.transpose(1, 2), size=num_patches, mode="nearest").transpose(1, 2)


@dataclass(frozen=True)
class _Items:
    """The items of one batch under one setting."""

    features: Tensor
    tokens: Tensor
    losses: Tensor
    snapshots: dict[int, Tensor]
    stopped: Tensor


class _Group:
    """Rows with the same number of pseudo-tokens: every item of a batch under each of some settings.

    Rows that have reached their target cosine are dropped from ``optimizer`` at the next look; ``alive`` says
    which rows it still holds.
    """

    def __init__(
        self,
        configs: Sequence[InversionConfig],
        ids: Sequence[str],
        targets_BD: Tensor,
        width: int,
        wanted: frozenset[int],
    ) -> None:
        def per_row(name: str) -> Tensor:
            values = torch.tensor([getattr(config, name) for config in configs], dtype=torch.float64)
            return values.repeat_interleave(len(ids)).to(targets_BD)

        start_RKW = torch.cat([initial_tokens(ids, config, width) for config in configs]).to(targets_BD)
        rates_R = per_row("learning_rate")
        self.optimizer: AdamW | LBFGS = (
            AdamW(start_RKW, rates_R, per_row("weight_decay"))
            if configs[0].method == "adamw"
            else LBFGS(start_RKW, rates_R)
        )
        self.targets = targets_BD.repeat(len(configs), 1)
        self.enough = None if configs[0].target_cosine is None else 1 - configs[0].target_cosine
        self._wanted = wanted
        self._settings = len(configs)
        self._steps = configs[0].steps
        rows = len(self.targets)
        self._alive = torch.arange(rows, device=targets_BD.device)
        self._done = torch.zeros(rows, dtype=torch.bool, device=targets_BD.device)
        self.stopped = torch.full((rows,), self._steps, device=targets_BD.device)
        self.features = torch.zeros_like(self.targets)
        self.tokens = start_RKW.clone()
        self.losses = targets_BD.new_full((rows, self._steps + 1), torch.inf)
        self.snapshots: dict[int, Tensor] = {}

    def record(self, step: int, features_RD: Tensor, losses_R: Tensor) -> None:
        """Keep what was just evaluated at the rows whose optimizer moves there, and the old at the others."""
        moved_R = self.optimizer.judge(losses_R)
        alive = self._alive
        if self.enough is not None:
            moved_R = moved_R & ~self._done[alive]
        self.features[alive] = torch.where(moved_R[:, None], features_RD, self.features[alive])
        self.tokens[alive] = torch.where(moved_R[:, None, None], self.optimizer.point, self.tokens[alive])
        before_R = self.losses[:, max(step - 1, 0)]
        self.losses[:, step] = before_R
        self.losses[alive, step] = torch.where(moved_R, losses_R, before_R[alive])
        if self.enough is not None:
            reached_R = ~self._done & (self.losses[:, step] <= self.enough)
            self.stopped = torch.where(reached_R, step, self.stopped)
            self._done |= reached_R
        if step in self._wanted:
            self.snapshots[step] = self.features.clone()

    def drop_done(self) -> int:
        """Drop the rows that are done (keep one if all are); return how many are left to do."""
        undone = (~self._done[self._alive]).nonzero().flatten()
        kept = undone if len(undone) else undone.new_zeros(1)  # not every tower takes an empty batch
        if len(kept) < len(self._alive):
            self.optimizer.select(kept)
            self.targets = self.targets[kept]
            self._alive = self._alive[kept]
        return len(undone)

    def per_setting(self) -> list[_Items]:
        """Split the rows by setting."""
        count = len(self.features) // self._settings
        return [
            _Items(
                self.features[rows],
                self.tokens[rows],
                self.losses[rows],
                {step: features[rows] for step, features in self.snapshots.items()},
                self.stopped[rows],
            )
            for rows in (slice(place * count, (place + 1) * count) for place in range(self._settings))
        ]

    def finish(self, step: int) -> None:
        """Carry on what was true at ``step`` to the last one: every row is done."""
        self.losses[:, step + 1 :] = self.losses[:, step, None]
        self.snapshots |= {later: self.features for later in self._wanted if later > step}


def _descend(forward: Forward, groups: Sequence[_Group], steps: int) -> None:
    for step in range(steps + 1):
        last = step == steps
        points = [group.optimizer.point.detach().requires_grad_(not last) for group in groups]
        with torch.set_grad_enabled(not last):
            features = forward(points)
            losses = [
                1 - (rows * group.targets).sum(dim=1) for rows, group in zip(features, groups, strict=True)
            ]
        for group, rows, loss in zip(groups, features, losses, strict=True):
            group.record(step, rows.detach(), loss.detach())
        if last:
            return
        gradients = torch.autograd.grad(torch.cat(losses).sum(), points)
        for group, gradient in zip(groups, gradients, strict=True):
            group.optimizer.step(gradient)
        if groups[0].enough is not None and step % _LOOK == _LOOK - 1:
            left = [group.drop_done() for group in groups]
            if not any(left):
                for group in groups:
                    group.finish(step)
                return
