"""What a named training run is: the baseline with something changed, and where its numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pretrain.config import TrainConfig
from pretrain.settings import ObjectiveConfig, TemperatureConfig

Family = Literal["host", "temperature", "intra-modal", "gap", "model", "control", "fine-tuning"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One arm: what it changes in the baseline, and the source of its numbers. Calling it gives the config.

    Args:
        family: the kind of change, by which tables are ordered.
        label: a few words for figures.
        without_temperature: label and description for another temperature, where they say one.
        description: one sentence: what is minimised or changed.
        source: where form and default come from, and how this differs.
        weights: terms beside the CLIP loss, or instead of it where ``clip`` is 0.
        objective: other fields of :class:`pretrain.settings.ObjectiveConfig`.
        model: fields of :class:`pretrain.settings.ModelConfig`.
        train: fields of :class:`pretrain.config.TrainConfig`.
        name: under which a registry has it (:func:`named`).
    """

    family: Family
    label: str
    description: str
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    without_temperature: tuple[str, str] | None = None
    name: str = ""

    def __call__(self) -> TrainConfig:
        """Give the full config."""
        base = TrainConfig(recipe=self.name)
        weights = {term: float(weight) for term, weight in {"clip": 1, **self.weights}.items() if weight}
        return replace(
            base,
            objective=ObjectiveConfig(weights=weights, **self.objective),
            model=replace(base.model, **self.model),
            **self.train,
        )


def named(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """Tell each recipe of a registry its name, under which its config is recorded."""
    return {name: replace(recipe, name=name) for name, recipe in recipes.items()}


def temperature(regime: str, initial: float, **more: float) -> dict[str, Any]:
    """Give the field of an objective that says how its temperature is set."""
    config: Any = {"regime": regime, "initial": initial, **more}
    return {"temperature": TemperatureConfig(**config)}
