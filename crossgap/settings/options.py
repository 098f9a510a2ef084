"""Settings on a command line and in files, for every command that has a configuration.

    python -m pretrain.train --set model.width=64 objective.temperature.initial=0.05
    python -m pretrain.train --config mine.yaml --steps 2000
    python -m pretrain.train --recipe slip --print-config > mine.yaml

A command's function says what it takes: its parameters are the options, and a parameter ``changes`` stands
for the fields of its configuration. A file names both; the command line counts for more than the file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from crossgap.errors import InputError, check_known, naming
from crossgap.settings.changes import dotted, overlaid
from crossgap.settings.documents import read_document, read_value, write_yaml
from crossgap.settings.strict import strict, table

CHANGES = "changes"
_HELP = """
        config: TOML or YAML file of options and settings; what is given here counts for more.
        set: any setting by its path, as {example}; a value as TOML has it, text without quotes, or null.
        print_config: print the file that repeats this call, defaults included, and do nothing else.
"""


@dataclass(frozen=True)
class Changes:
    """What a user changes in a configuration, by the paths of its fields.

    ``file`` is what a file says, ``given`` what ``--set`` says; with ``show`` the command prints its
    configuration instead of doing its work. ``options`` are the values of the command's own options.
    """

    file: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    show: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def over(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Put ``--set`` over settings that options gave.

        Raises:
            InputError: both name the same.
        """
        twice = sorted(options.keys() & self.given.keys())
        if twice:
            option = f"--{twice[0].rsplit('.', 1)[-1].replace('_', '-')}"
            raise InputError(f"{twice[0]} is given twice, by {option} and by --set; leave one out")
        return overlaid(options, self.given)

    def print(self, settings: Mapping[str, Any], *, leave_out: Collection[str] = ()) -> None:
        """Print the file that repeats the call: its options, except those in ``leave_out``, and settings."""
        kept = {name: _written(value) for name, value in self.options.items() if name not in leave_out}
        print(write_yaml({**kept, **settings}), end="")


NO_CHANGES = Changes()


def with_settings(
    main: Callable[..., object], arguments: Sequence[str], settings: Collection[str], example: str
) -> Callable[..., object]:
    """Give a command the options ``--config``, ``--set`` and ``--print-config``.

    The file named in ``arguments`` is read here: what it says of options becomes their default.

    Args:
        main: the command; its parameter ``changes`` gets the rest of the file and ``--set``.
        settings: the first parts of the paths that are settings, in a file and of ``--set``.
        example: of ``--set``, for its help.

    Raises:
        InputError: a key of the file is neither an option nor a setting, or a value is of another kind.
    """
    signature, hints = inspect.signature(main), get_type_hints(main, include_extras=True)
    options = {name: part for name, part in signature.parameters.items() if name != CHANGES}
    path = _named_file(arguments)
    document = {} if path is None else table(read_document(Path(path), "config file"), "")
    for name in document:
        keys = [*options, *(top for top in settings if top not in options)]
        with naming(str(path)):
            check_known(name.split(".")[0], keys, "key")
    defaults = {
        name: strict(value, hints[name], f"{path}: {name}")
        for name, value in document.items()
        if name in options and name not in settings
    }
    in_file = dotted({name: value for name, value in document.items() if name.split(".")[0] in settings})

    def command(**given: Any) -> object:
        given.pop("config")
        said = _read_set(given.pop("set"), settings, options)
        show = given.pop("print_config")
        return main(**given, changes=Changes(in_file, said, show, given))

    parameters = [
        part.replace(annotation=hints[name], default=defaults.get(name, part.default))
        for name, part in options.items()
    ]
    more: dict[str, tuple[Any, Any]] = {
        "config": (Path | None, None),
        "set": (tuple[str, ...], ()),
        "print_config": (bool, False),
    }
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
        for name, (hint, default) in more.items()
    ]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {part.name: part.annotation for part in parameters}
    command.__doc__ = inspect.cleandoc(main.__doc__ or "") + inspect.cleandoc(
        "x" + _HELP.format(example=example)
    ).removeprefix("x").replace("\n", "\n    ")
    return command


def _named_file(arguments: Sequence[str]) -> str | None:
    named = None
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            named = arguments[place + 1]
        elif argument.startswith("--config="):
            named = argument.removeprefix("--config=")
    return named


def _read_set(given: Sequence[str], settings: Collection[str], options: Collection[str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--set {text}: wanted is PATH=VALUE, as learning_rate=0.001")
        top = name.split(".")[0]
        if top in options and top not in settings:
            raise InputError(f"--set {text}: {top} is an option of its own: --{top.replace('_', '-')}")
        with naming(f"--set {text}"):
            check_known(top, settings, "setting")
        if name in said:
            raise InputError(f"--set {text}: {name} is set twice")
        said[name] = read_value(value)
    return said


def _written(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _written(entry) for name, entry in value.items()}
    return [_written(entry) for entry in value] if isinstance(value, list | tuple) else value
