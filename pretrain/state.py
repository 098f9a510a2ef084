"""What changes while a model is trained: the parameters and the optimizer's moments."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

TABLE = "token_embedding.weight"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_EXTRA = "extra."
_AVERAGE = "average."


class TrainingState:
    """A model, the part of its token table that a corpus uses, and AdamW over both.

    Only the rows of the tokens that occur are trained, as a table of their own. The other rows get no
    gradient, and token embeddings no weight decay, so they would not move anyway: the result is that of
    training the whole table, at a fraction of its cost (49,408 rows, of which the captions of the emoji use
    some four thousand). With ``vocabulary_V`` None the model's own table is trained, a parameter like others.

    Weight decay acts on matrices only: not on biases, norms, the temperature, nor on token, position and
    class embeddings, or what a timm tower calls so. The temperature has the learning rate of the rest times
    ``temperature_rate``.

    ``ema`` is the decay of an average of the model's parameters over the steps, kept beside them.

    ``extra`` holds what is not part of the model: terms with a state, a teacher. Its parameters are trained
    too where they require a gradient.

    [0] Loshchilov and Hutter, 2019, arXiv 1711.05101 (AdamW).
    """

    def __init__(
        self,
        model: Any,
        vocabulary_V: Tensor | None,
        *,
        weight_decay: float,
        betas: tuple[float, float],
        temperature_rate: float = 1.0,
        extra: nn.ModuleDict | None = None,
        ema: float | None = None,
    ) -> None:
        self.model = model
        self.extra = extra or nn.ModuleDict()
        self.vocabulary_V = None if vocabulary_V is None else vocabulary_V.to(model.logit_scale.device)
        self._names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        if self.vocabulary_V is not None:
            table = model.token_embedding.weight
            trained = table.requires_grad
            table.requires_grad_(False)
            self.table_VW = nn.Parameter(table[self.vocabulary_V].clone(), requires_grad=trained)
            self._names += [TABLE] * trained
            self.parameters += [self.table_VW] * trained
        extras = ((_EXTRA + name, parameter) for name, parameter in self.extra.named_parameters())
        for name, parameter in itertools.chain(model.named_parameters(), extras):
            if parameter.requires_grad:
                self._names.append(name)
                self.parameters.append(parameter)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self._named():
            decay = weight_decay if _is_decayed(name, parameter) else 0.0
            factor = temperature_rate if name == "logit_scale" else 1.0
            groups.setdefault((decay, factor), []).append(parameter)
        arguments = [
            {"params": parameters, "weight_decay": decay, "rate_factor": factor}
            for (decay, factor), parameters in groups.items()
        ]
        self.optimizer = torch.optim.AdamW(arguments, lr=0.0, betas=betas, fused=True)
        self._ema = ema
        own = [] if ema is None else [n for n, _ in self._named() if not n.startswith(_EXTRA)]
        self._averages = {name: dict(self._named())[name].detach().clone() for name in own}

    def clip_gradients(self, max_norm: float | None) -> Tensor:
        """Scale the gradients down to ``max_norm`` and return the norm that they had, a 0-d tensor."""
        return nn.utils.clip_grad_norm_(self.parameters, math.inf if max_norm is None else max_norm)

    def update(self, learning_rate: float) -> None:
        """Make one AdamW step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["rate_factor"]
        self.optimizer.step()
        if self._ema is not None:
            current = dict(self._named())
            averaged = list(self._averages.values())
            now = [current[name].detach() for name in self._averages]
            torch._foreach_lerp_(averaged, now, 1 - self._ema)

    def averaged_weights(self) -> dict[str, Tensor] | None:
        """Give the state dict of the averaged model, None where no average is kept."""
        if self._ema is None:
            return None
        current = dict(self._named())
        kept = {name: current[name].detach().clone() for name in self._averages}
        with torch.no_grad():
            for name, average in self._averages.items():
                current[name].copy_(average)
            weights = {name: tensor.clone() for name, tensor in self.weights().items()}
            for name, tensor in kept.items():
                current[name].copy_(tensor)
        return weights

    def weights(self) -> dict[str, Tensor]:
        """Give the model's state dict with the trained rows of the token table in their places."""
        weights = dict(self.model.state_dict())
        if self.vocabulary_V is None:
            return weights
        weights[TABLE] = weights[TABLE].index_copy(0, self.vocabulary_V, self.table_VW.detach())
        return weights

    def moments(self) -> dict[str, Tensor]:
        """Give the optimizer's tensors as ``<parameter>.<moment>``, and what is not part of the model."""
        extra = {_EXTRA + name: tensor for name, tensor in self.extra.state_dict().items()}
        extra |= {_AVERAGE + name: tensor for name, tensor in self._averages.items()}
        return extra | {
            f"{name}.{moment}": self.optimizer.state[parameter][moment]
            for name, parameter in self._named()
            if parameter in self.optimizer.state
            for moment in _MOMENTS
        }

    def restore(self, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
        """Continue from what :meth:`weights` and :meth:`moments` gave; the tensors are copied."""
        self.model.load_state_dict(weights)
        self.extra.load_state_dict({name: moments[_EXTRA + name] for name in self.extra.state_dict()})
        if self.vocabulary_V is not None:
            with torch.no_grad():
                self.table_VW.copy_(self.model.token_embedding.weight[self.vocabulary_V])
        for name, average in self._averages.items():
            average.copy_(moments[_AVERAGE + name])
        for name, parameter in self._named():
            if f"{name}.{_MOMENTS[0]}" in moments:
                self.optimizer.state[parameter] = {
                    moment: moments[f"{name}.{moment}"].to(parameter.device, copy=True) for moment in _MOMENTS
                }

    def _named(self) -> zip[tuple[str, nn.Parameter]]:
        return zip(self._names, self.parameters, strict=True)


# parts of the names of what stands for a place, a class or a query: no weight decay
_EMBEDDINGS = ("embedding", "pos_embed", "cls_token", "reg_token", "cls_emb", "attn_pool.latent")


def _is_decayed(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and not any(part in name for part in _EMBEDDINGS)
