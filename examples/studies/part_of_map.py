"""A part of a named study: the arms of `map` that follow released code where it differs from the paper.

    python -m ablations.sweep --study examples/studies/part_of_map.py --dry-run

Its name stays that of the whole, so that `analysis.term_map --into` can put it into the whole's table.
"""

from dataclasses import replace

from ablations.study import Study
from ablations.study.named import first_map

ARMS = ("baseline", "separation", "separation-semantic", "vicreg", "rafa")


def study() -> Study:
    """What do these arms do, at the settings and seeds of the whole map?"""
    whole = first_map()
    return replace(whole, arms=tuple(whole.arm(name) for name in ARMS))
