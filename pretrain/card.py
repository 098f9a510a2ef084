"""The model card that lies beside each checkpoint."""

from __future__ import annotations

from crossgap.datasets.scenes import is_scenes
from crossgap.provenance import commit, versions
from pretrain.config import TrainConfig

_DATA = {
    "emoji": "the embedded emoji of crossgap (Noto, Apache-2.0; Twemoji, CC BY 4.0; OpenMoji, CC BY-SA 4.0; "
    "Fluent, MIT; names and keywords from Unicode), training split",
}


def _data(name: str) -> str:
    if is_scenes(name):
        return f"{name}: scenes made of drawings of {_DATA['emoji'].removesuffix(', training split')}"
    return _DATA.get(name, name)


def model_card(config: TrainConfig, *, step: int, amount: str) -> str:
    """Say in Markdown what a checkpoint is, how it was trained, on what, and how to load it."""
    objective = config.objective
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in objective.weights.items() if weight > 0)
    tau = objective.temperature
    end = f" to {tau.final:g}" if tau.final is not None else ""
    changes = ", ".join(f"{name} {strength:g}" for name, strength in objective.modifiers.items() if strength)
    lines = [
        f"# {config.recipe}, step {step}",
        "",
        f"A {'fine-tuned' if config.encoder else 'small'} CLIP, made to study its objective, not to be used.",
        "",
        f"- data: {_data(config.data)}; {amount}",
        f"- seen: {step * config.batch_size:,} pairs, {step} of {config.steps} steps of {config.batch_size}",
        f"- objective: {terms}" + (f"; {changes}" if changes else ""),
        f"- temperature: {tau.regime}, {tau.initial:g}{end}",
        f"- model: {_model(config)}",
        f"- seed {config.seed}; {versions()}; commit {commit()}",
        "",
        'Load it: `open_clip.create_model_and_transforms("local-dir:THIS_FOLDER")` and '
        '`open_clip.get_tokenizer("local-dir:THIS_FOLDER")`.',
        "",
        "Every setting stands in `config.json` of the run.",
    ]
    return "\n".join(lines) + "\n"


def _model(config: TrainConfig) -> str:
    if config.encoder is None:
        sizes = config.model
        return (
            f"{sizes.layers} layers of width {sizes.width}, images of {sizes.image_size} pixels, shared: "
            f"{sizes.shared}"
        )
    locked = f", locked: {' '.join(config.locked)}" if config.locked else ""
    return f"fine-tuned from {config.encoder} {config.pretrained or ''}{locked}"
