"""One update of a training: draw a batch, embed it, evaluate the objective, differentiate, step."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from crossgap.datasets.bad import BadSamples
from crossgap.encoders.devices import resolve_device
from crossgap.processes import ALONE, Processes
from pretrain.architectures.patch_dropout import PatchDropout
from pretrain.config import TrainConfig
from pretrain.data.batches import Batch, Batches
from pretrain.data.pairs import TrainingPairs, concepts_of
from pretrain.data.resampled import ResampledBatches, ShardStream
from pretrain.data.scenes import EndlessBatches, EndlessScenes
from pretrain.data.semantics import with_semantics
from pretrain.data.views import Embedder
from pretrain.data.whole import WholeEmbedder
from pretrain.objective import Loss, Moment, build_modules, clamp_logit_scale, evaluate_objective
from pretrain.processes import average, check_shares, gather_views
from pretrain.settings import views_of
from pretrain.start import Start, check_norms, set_training, start_model
from pretrain.state import TrainingState
from pretrain.terms import TERMS, Setup, TermModule
from pretrain.terms.distillation import follow
from pretrain.terms.views import VIEWS, Views


class NonFiniteLoss(RuntimeError):  # noqa: N818  (it names what the loss is)
    """The loss or its gradient became infinite or NaN; the message names the step and the parts."""

    def __init__(self, step: int, parts: dict[str, float]) -> None:
        listed = ", ".join(f"{name}={value:.6g}" for name, value in parts.items())
        super().__init__(f"step {step}: the loss is not finite: {listed}")
        self.step = step
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return NonFiniteLoss, (self.step, self.parts)


class Updates:
    """What one process's updates need and change: model, terms with a state, optimizer, batches, the step."""

    def __init__(
        self,
        config: TrainConfig,
        pairs: TrainingPairs | ShardStream | EndlessScenes,
        processes: Processes = ALONE,
        *,
        start: Start | None = None,
        bad: BadSamples | None = None,
    ) -> None:
        self.config = config
        self.bad = bad or BadSamples(limit=config.max_bad)
        self.processes = processes
        check_shares(config.batch_size, config.accumulate, processes)
        self.device = resolve_device(processes.device or config.device)
        objective = config.objective
        self.start = start or start_model(config)
        self.batches = self._batches(pairs)
        temperature = objective.temperature
        self.model = self.start.model
        self.model.logit_scale.requires_grad_(temperature.regime == "learnable")
        self.model.set_grad_checkpointing(config.recompute)
        check_norms(self.model, parts=config.accumulate * processes.size, recompute=config.recompute)
        set_training(self.model.to(self.device), config.locked)
        widths = self.start.widths
        setup = Setup(widths.image, widths.embedding, objective.teacher_momentum, widths.text)
        self.modules = build_modules(objective, setup, seed=config.seed).to(self.device)
        self.teacher = self._teacher()
        kept = {"terms": self.modules} | ({} if self.teacher is None else {"teacher": self.teacher})
        self.state = TrainingState(
            self.model,
            pairs.vocabulary_V if self.start.why_whole is None else None,
            weight_decay=config.weight_decay,
            betas=config.betas,
            temperature_rate=temperature.rate,
            extra=nn.ModuleDict(kept),
            ema=config.ema,
        )
        whole = self.start.why_whole is not None
        self.embed = (WholeEmbedder if whole else Embedder)(
            model=self.model,
            table_VW=self.start.table_VW if whole else self.state.table_VW,
            teacher=self.teacher,
            text_dropout=config.augment.text_dropout,
            seed=config.seed,
            bf16=config.precision == "bf16",
            mean=self.start.preprocess_cfg["mean"],
            std=self.start.preprocess_cfg["std"],
            compiled=config.compiled,
        )
        self.loss: Loss
        self.step = 0
        self.pending: list[tuple[int, list[str], Tensor]] = []

    def _batches(
        self, data: TrainingPairs | ShardStream | EndlessScenes
    ) -> Batches | ResampledBatches | EndlessBatches:
        config, objective = self.config, self.config.objective
        settings: dict[str, Any] = {
            "batch_size": config.batch_size,
            "image_size": self.start.image_size,
            "augment": config.augment,
            "seed": config.seed,
            "extra_augment": config.extra_augment,
            "edges": self.start.tokens.edges,
        }
        if isinstance(data, ShardStream):
            self.digest, self.amount = data.digest, f"a stream of {len(data.shards):,} shards"
            return ResampledBatches(stream=data, bad=self.bad, **settings)
        if isinstance(data, EndlessScenes):
            self.digest, self.amount = data.digest, "scenes without end"
            return EndlessBatches(scenes=data, device=self.device, workers=config.workers, **settings)
        if "concept_B" in objective.views:
            concepts_of(data)
        if "semantic_BS" in objective.views:
            data = with_semantics(data, config.semantics)
        self.digest, self.amount = data.digest, f"{len(data):,} pairs"
        return Batches(pairs=data.to(self.device), **settings)

    def _teacher(self) -> nn.Module | None:
        """Copy the image tower, where a term learns from its average over the steps."""
        if not any(VIEWS[view].tower == "teacher" for view in self.config.objective.views):
            return None
        teacher: nn.Module = copy.deepcopy(self.model.visual)
        if isinstance(getattr(teacher, "patch_dropout", None), PatchDropout):
            teacher.patch_dropout = nn.Identity()  # it sees the whole image
        return teacher.requires_grad_(False)

    def _schedule_temperature(self) -> None:
        """Set the temperature of the step to come, where it follows a schedule."""
        temperature = self.config.objective.temperature
        if temperature.scheduled:
            now = temperature.at(self.step, self.config.steps)
            with torch.no_grad():
                self.model.logit_scale.fill_(-math.log(now))

    def advance(self) -> None:
        """Make one update: draw, embed, evaluate, differentiate, step."""
        objective = self.config.objective
        names = views_of(objective.weights_at(self.step, self.config.steps))
        rows = self.processes.share(self.config.batch_size)
        with self.processes.together():  # each reads its own rows, and what one cannot read ends all
            parts = dict.fromkeys(VIEWS[name].part for name in names)
            batch = self.batches.batch(self.step, parts, rows=rows)
        self.state.optimizer.zero_grad(set_to_none=True)
        views = self._backward(batch, names)
        self.gradient_norm = self.state.clip_gradients(self.config.gradient_clip)
        logged = ["loss", *self.loss.raw, "gradient_norm"]
        values = torch.stack([self.loss.total, *self.loss.raw.values(), self.gradient_norm]).detach()
        self.pending.append((self.step + 1, logged, values))
        if self.device.type == "cpu":  # elsewhere a look waits for the device: once a logged step
            self._check_finite()
        self.state.update(self.config.rate(self.step))
        if objective.temperature.regime == "learnable":
            clamp_logit_scale(self.model.logit_scale)
        for name in self.loss.raw:
            if name in self.modules:
                _term_module(self.modules[name]).after_step(
                    *(views[view].detach() for view in TERMS[name].inputs)
                )
        if self.teacher is not None:
            follow(self.teacher, self.model.visual, objective.teacher_momentum)
        self.step += 1

    def _backward(self, batch: Batch, names: tuple[str, ...]) -> Views:
        """Embed the batch, evaluate the objective and differentiate it; the views are returned.

        In parts, the towers run twice: once for the views of the whole batch, without a graph, from which the
        loss and its gradient with respect to each row come, and once to carry that gradient on.

        [0] Gao et al., GradCache, 2021, arXiv 2101.06983.
        """
        config = self.config
        if config.accumulate == 1:
            views = self._gathered(self.embed(batch, names, step=self.step))
            self._evaluate(views)
            self.term_gradients = self._term_gradients() if self._logs_this_step else {}
            self.loss.total.backward()
            self._average_gradients()
            return views
        share = config.batch_size // self.processes.size
        size = share // config.accumulate
        parts = [batch.rows(first, first + size) for first in range(0, share, size)]
        with torch.no_grad():
            embedded = [self.embed(part, names, step=self.step) for part in parts]
        own = {name: torch.cat([part[name] for part in embedded]) for name in names}
        rows = {name: own[name].requires_grad_() for name in names if VIEWS[name].differentiable}
        views = self._gathered(own)
        self._evaluate(views)
        self.loss.total.backward()
        self.term_gradients = {}
        for index, part in enumerate(parts):
            again = self.embed(part, list(rows), step=self.step)
            gradients = {
                name: values.grad.split(size)[index]
                for name, values in rows.items()
                if values.grad is not None
            }
            torch.autograd.backward([again[name] for name in gradients], list(gradients.values()))
        self._average_gradients()
        return views

    def _gathered(self, views: Views) -> Views:
        return gather_views(views) if self.processes.size > 1 else views

    def _average_gradients(self) -> None:
        if self.processes.size > 1:  # a parameter has a gradient in all processes or in none
            average([p.grad for p in self.state.parameters if p.grad is not None])
        if self._local:  # what is logged is the loss of the batch
            total, raw, weighted = self.loss
            self.loss = Loss(
                total.detach().clone(),
                {name: value.detach().clone() for name, value in raw.items()},
                {name: value.detach().clone() for name, value in weighted.items()},
            )
            average([self.loss.total, *self.loss.raw.values(), *self.loss.weighted.values()])

    def _evaluate(self, views: Views) -> None:
        self.loss = evaluate_objective(
            views,
            self.config.objective,
            temperature=self.model.logit_scale.neg().exp(),
            moment=Moment(self.step, self.config.steps, self.config.seed),
            modules=self.modules,
            rows=self.processes.share(self.config.batch_size) if self._local else None,
        )

    @property
    def _local(self) -> bool:
        return self.config.local_loss and self.processes.size > 1

    def _term_gradients(self) -> dict[str, float]:
        """Give the norm of each weighted term's own gradient."""
        norms = {}
        for name, value in self.loss.weighted.items():
            parts = torch.autograd.grad(value, self.state.parameters, retain_graph=True, allow_unused=True)
            gradients = [part for part in parts if part is not None]
            if self.processes.size > 1:
                average(gradients)
            norms[name] = nn.utils.get_total_norm(gradients).item()
        return norms

    @property
    def _logs_this_step(self) -> bool:
        done, config = self.step + 1, self.config
        return config.term_gradients and (done % config.log_every == 0 or done == config.steps)

    def _check_finite(self) -> None:
        for step, names, values in self.pending:
            if not bool(values.isfinite().all()):
                raise NonFiniteLoss(step, dict(zip(names, values.tolist(), strict=True)))
        self.pending.clear()


def _term_module(module: nn.Module) -> TermModule:
    assert isinstance(module, TermModule)
    return module
