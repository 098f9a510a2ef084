"""Write the table of docs/settings.md: every setting of a training and of an inversion, from its declaration.

python tools/list_settings.py
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crossgap import invert
from crossgap.evaluation.changed_plans import SEVERAL
from crossgap.evaluation.plan import InversionPlan
from crossgap.inversion.config import InversionConfig
from crossgap.settings.strict import hints_of
from pretrain import train
from pretrain.recipes import RECIPES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
MARK = "<!-- what follows is written by tools/list_settings.py -->\n"
_OPTIONS = {"architecture": "model"}  # a setting whose option has another name
_HEAD = "| path | kind | default | option |\n| --- | --- | --- | --- |"


def tables() -> str:
    """Write the tables: of trainings, from the recipe baseline, and of inversions, from the paper's OTI."""
    training = _table(_rows(RECIPES["baseline"](), "", train.main))
    plans = {name: hints_of(InversionPlan)[name] for name in (*SEVERAL.values(), "snapshots", "engine")}
    inversion = [
        *_rows(InversionConfig(), "", invert.main),
        *((name, _kind(hint), "", f"`{_option(_single(name))}`") for name, hint in plans.items()),
    ]
    return f"## Of a training\n\n{training}\n\n## Of an inversion\n\n{_table(inversion)}\n"


def _single(name: str) -> str:
    return next((one for one, several in SEVERAL.items() if several == name), name)


def _rows(config: Any, before: str, command: Callable[..., object]) -> Iterator[tuple[str, str, str, str]]:
    options = inspect.signature(command).parameters
    for name, hint in hints_of(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            yield from _rows(value, f"{before}{name}.", command)
        else:
            named = _OPTIONS.get(name, name)
            option = f"`{_option(named)}`" if named in options and not before else ""
            yield f"{before}{name}", _kind(hint), f"`{_written(value)}`", option


def _kind(hint: Any) -> str:
    text = inspect.formatannotation(hint).replace("typing.", "")
    return f"`{text}`".replace("|", "\\|")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _written(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _table(rows: Iterator[tuple[str, str, str, str]] | list[tuple[str, str, str, str]]) -> str:
    return "\n".join([_HEAD, *(f"| `{path}` | {' | '.join(rest)} |" for path, *rest in rows)])


def main() -> None:
    """Write the page anew, below its mark."""
    text = PAGE.read_text("utf-8")
    PAGE.write_text(text[: text.index(MARK) + len(MARK)] + "\n" + tables(), "utf-8")


if __name__ == "__main__":
    main()
