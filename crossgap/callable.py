"""Commands that are functions from Python too: ``crossgap.evaluate(...)``."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossgap.evaluation.result import Evaluation
    from crossgap.face import Inverted


class EvaluateModule(ModuleType):
    """The module of the command ``crossgap.evaluate``: called, it is :func:`crossgap.face.evaluate`."""

    def __call__(self, *arguments: Any, **named: Any) -> Evaluation:
        """Call the function."""
        from crossgap.face import evaluate

        return evaluate(*arguments, **named)


class InvertModule(ModuleType):
    """The module of the command ``crossgap.invert``: called, it is :func:`crossgap.face.invert`."""

    def __call__(self, *arguments: Any, **named: Any) -> Inverted:
        """Call the function."""
        from crossgap.face import invert

        return invert(*arguments, **named)
