"""The model card that lies beside each checkpoint."""

from __future__ import annotations

from crossgap.provenance import commit, versions
from pretrain.config import TrainConfig

_DATA = {
    "emoji": "the embedded emoji of crossgap (Noto, Apache-2.0; Twemoji, CC BY 4.0; OpenMoji, CC BY-SA 4.0; "
    "Fluent, MIT; names and keywords from Unicode), training split",
}


def model_card(config: TrainConfig, *, step: int, pairs: int) -> str:
    """Say in Markdown what a checkpoint is, how it was trained, on what, and how to load it."""
    objective = config.objective
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in objective.weights.items() if weight > 0)
    tau = objective.temperature
    end = f" to {tau.final:g}" if tau.final is not None else ""
    changes = ", ".join(f"{name} {strength:g}" for name, strength in objective.modifiers.items() if strength)
    lines = [
        f"# {config.recipe}, step {step}",
        "",
        "A small CLIP, trained to study its objective; not meant for use.",
        "",
        f"- data: {_DATA.get(config.data, config.data)}; {pairs:,} pairs",
        f"- seen: {step * config.batch_size:,} pairs, {step} of {config.steps} steps of {config.batch_size}",
        f"- objective: {terms}" + (f"; {changes}" if changes else ""),
        f"- temperature: {tau.regime}, {tau.initial:g}{end}",
        f"- model: {config.model.layers} layers of width {config.model.width}, images of "
        f"{config.model.image_size} pixels, shared: {config.model.shared}",
        f"- seed {config.seed}; {versions()}; commit {commit()}",
        "",
        'Load it: `open_clip.create_model_and_transforms("local-dir:THIS_FOLDER")` and '
        '`open_clip.get_tokenizer("local-dir:THIS_FOLDER")`.',
        "",
        "Every setting stands in `config.json` of the run.",
    ]
    return "\n".join(lines) + "\n"
