"""Measure an encoder, or features made elsewhere, on the tasks of a dataset by routes.

Read in this order: ``plan`` (what to measure), ``routes`` and ``fitting`` (how sides are made), ``features``,
``sides``, ``measuring``, ``choices`` (on the validation split), ``classifying``, ``pairs``, ``rows`` and
``pictures``, ``result``; ``run`` puts them together. ``comparison`` and ``summary`` are what is printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossgap.lazy import lazily

if TYPE_CHECKING:
    from crossgap.evaluation.plan import EvaluationConfig as EvaluationConfig
    from crossgap.evaluation.plan import InversionPlan as InversionPlan
    from crossgap.evaluation.result import Evaluation as Evaluation
    from crossgap.evaluation.result import joined as joined
    from crossgap.evaluation.run import evaluate as evaluate

__getattr__ = lazily(
    __name__,
    {
        "Evaluation": "crossgap.evaluation.result",
        "EvaluationConfig": "crossgap.evaluation.plan",
        "InversionPlan": "crossgap.evaluation.plan",
        "evaluate": "crossgap.evaluation.run",
        "joined": "crossgap.evaluation.result",
    },
)
