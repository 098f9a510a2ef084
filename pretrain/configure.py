"""Change single settings of a training, options of its scenes among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossgap.datasets.scenes.options import SceneOptions, is_scenes
from crossgap.errors import InputError, naming
from crossgap.settings.changes import changed
from pretrain.config import TrainConfig

Value = float | int | str | bool
Settings = dict[str, Value]

OF_DATA = "data."  # before the name of an option of the scenes that are trained on


def configure(base: TrainConfig, settings: Mapping[str, Any], *, where: str = "") -> TrainConfig:
    """Return ``base`` with some settings changed: a pure function.

    A weight or strength of 0 leaves the term or modifier out, None any entry of a mapping. Options of
    ``data`` are changed in its name.

    Args:
        where: the settings come from, which errors put before a setting's name.

    Raises:
        InputError: a name that is no setting, a value of another kind, or one that the config refuses.
    """
    if isinstance(settings.get("model"), str):
        raise InputError(
            f"{where}{'.' * bool(where)}model: {settings['model']!r}: the sizes of the small CLIP are "
            f"model.layers, model.width, ...; a model of open_clip is architecture={settings['model']} "
            "(--model)"
        )
    of_data = {name: value for name, value in settings.items() if name.startswith(OF_DATA)}
    others = {name: value for name, value in settings.items() if name not in of_data}
    if of_data:
        others["data"] = _world(others.get("data", base.data), of_data, where)
    made = changed(base, others, where=where)
    with naming(where):
        made.refuse_idle(settings)
    return made


def _world(data: Any, settings: Mapping[str, Value], where: str) -> str:
    """Return the name of the training's world with some of its options changed."""
    before = f"{where}." if where else ""
    if not isinstance(data, str) or not is_scenes(data):
        raise InputError(
            f"{before}{next(iter(settings))}: data={data!r} has no options; train on scenes (data = "
            f'"scenes"), which has {", ".join(SceneOptions().as_written())}'
        )
    options = {name.removeprefix(OF_DATA): value for name, value in settings.items()}
    with naming(f"{before}data"):
        return SceneOptions.parse(data).changed(options).name
