"""Measure an encoder, or features made elsewhere, on the tasks of a dataset by routes.

Read in this order: ``plan`` (what to measure), ``routes`` and ``fitting`` (how sides are made), ``features``,
``sides``, ``measuring``, ``choices`` (on the validation split), ``classifying``, ``pairs``, ``rows`` and
``pictures``, ``result``; ``run`` puts them together. ``comparison`` and ``summary`` are what is printed.
"""

from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.result import Evaluation, joined
from crossgap.evaluation.run import evaluate

__all__ = ["Evaluation", "EvaluationConfig", "InversionPlan", "evaluate", "joined"]
