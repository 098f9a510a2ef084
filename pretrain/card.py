"""The model card that lies beside each checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from crossgap.datasets.scenes.options import is_scenes
from crossgap.provenance import commit, versions
from pretrain.config import TrainConfig
from pretrain.labels import change_words, changes_of_recipe, label_of, temperature_words
from pretrain.recipes import KNOWN_RECIPES

_DATA = {
    "emoji": "the embedded emoji of crossgap (Noto, Apache-2.0; Twemoji, CC BY 4.0; OpenMoji, CC BY-SA 4.0; "
    "Fluent, MIT; names and keywords from Unicode), training split",
}


def _data(name: str) -> str:
    if is_scenes(name):
        return f"{name}: scenes made of drawings of {_DATA['emoji'].removesuffix(', training split')}"
    return _DATA.get(name, name)


def model_card(
    config: TrainConfig, *, step: int, amount: str, used: Mapping[str, Any], label: str | None = None
) -> str:
    """Say in Markdown what a checkpoint is, how it was trained, on what, and how to load it.

    Args:
        amount: of data, in words.
        used: what the run turned out to use, :attr:`pretrain.loop.Run.used`.
        label: a study's own name of the run.
    """
    objective = config.objective
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in objective.weights.items() if weight > 0)
    changes = ", ".join(f"{name} {strength:g}" for name, strength in objective.modifiers.items() if strength)
    lines = [
        f"# {label or label_of(config)}, step {step}",
        "",
        f"A {'fine-tuned' if config.encoder else 'small'} CLIP, made to study its objective, not to be used.",
        "",
        f"- recipe: {_recipe(config)}",
        f"- data: {_data(config.data)}; {amount}",
        f"- seen: {step * config.batch_size:,} pairs, {step} of {config.steps} steps of {config.batch_size}",
        f"- objective: {terms}" + (f"; {changes}" if changes else ""),
        f"- {temperature_words(objective.temperature)}",
        f"- learning rate: {config.learning_rate:g} after {config.warmed_up} steps, {config.schedule}; "
        f"weight decay {config.weight_decay:g}",
        f"- model: {_model(config, used)}",
        f"- seed {config.seed}; {used['device']}, {config.precision}, threads {used['threads']}; "
        f"{versions()}; commit {commit()}",
        "",
        'Load it: `open_clip.create_model_and_transforms("local-dir:THIS_FOLDER")` and '
        '`open_clip.get_tokenizer("local-dir:THIS_FOLDER")`.',
        "",
        "Every setting stands in `config.json` of the run.",
    ]
    return "\n".join(lines) + "\n"


def _recipe(config: TrainConfig) -> str:
    if config.recipe not in KNOWN_RECIPES:
        return f"none ({config.recipe})"
    changed = change_words(changes_of_recipe(config))
    return f"{config.recipe}, changed: {changed}" if changed else config.recipe


def _model(config: TrainConfig, used: Mapping[str, Any]) -> str:
    """Give the sizes of the towers that were trained, be they built here or loaded."""
    vision, text = used["model"]["vision_cfg"], used["model"]["text_cfg"]
    # open_clip's own defaults, where a model's configuration leaves them out
    texts = f"in {text.get('layers', 12)} of width {text.get('width', 512)}"
    if text.get("hf_model_name"):
        texts = f"by {text['hf_model_name']}"
    sizes = (
        f"images of {vision.get('image_size', 224)} pixels {_image_tower(vision)}, texts {texts}, "
        f"embedding of {used['model']['embed_dim']}; "
        f"{used['parameters']:,} parameters, {used['trained']:,} trained"
    )
    if config.architecture is not None:
        return f"{PurePath(config.architecture).name} from random weights: {sizes}; passes: {used['forward']}"
    if config.encoder is None:
        return f"{sizes}; shared: {config.model.shared}"
    locked = f"; locked: {' '.join(config.locked)}" if config.locked else ""
    return f"fine-tuned from {config.encoder} {config.pretrained or ''}: {sizes}{locked}"


def _image_tower(vision: Mapping[str, Any]) -> str:
    if vision.get("timm_model_name"):
        return f"by timm's {vision['timm_model_name']}"
    layers, width = vision.get("layers", 12), vision.get("width", 768)
    if isinstance(layers, list | tuple):
        return f"in a ResNet of {' + '.join(map(str, layers))} blocks and width {width}"
    return f"in {layers} layers of width {width}"
