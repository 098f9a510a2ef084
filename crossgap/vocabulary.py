"""Words and plain data that measuring and reporting share. Imports no torch."""

from __future__ import annotations

# the route that inverts the query of a task within this modality
INVERSIONS = {"image": "oti", "text": "ovi"}
CROSS_TASKS = ("image-text", "text-image")


def is_cross_modal(task: str) -> bool:
    """Tell whether a task compares an image with a text (retrieval across modalities, zero-shot)."""
    return task in CROSS_TASKS or task.startswith("zero-shot")
