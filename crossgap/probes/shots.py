"""Few-shot tasks: how many images a class they take, how often they draw, what they are called. No torch."""

from __future__ import annotations

SHOTS = (1, 2, 4, 8, 16)  # of CoOp and of what followed it
DRAWS = 3  # choices of the images, averaged for each query
CLASS_MEAN = "class-mean"
LINEAR_PROBE = "linear-probe"
_FULL = "full"


def class_mean_name(shots: int | None) -> str:
    """Name the task of class means of so many images each; None: of all."""
    return f"{CLASS_MEAN}-{_FULL if shots is None else shots}"


def probe_columns() -> dict[str, str]:
    """Say in words what each task that classifies images from training images is, in order."""
    words = {class_mean_name(shots): f"{shots} shot{'s' * (shots > 1)}" for shots in SHOTS}
    return {**words, class_mean_name(None): "all images", LINEAR_PROBE: "linear probe"}
