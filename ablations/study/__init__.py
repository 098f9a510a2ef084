"""What a study is: arms, axes and seeds, from a name, a Python function or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossgap.lazy import lazily

if TYPE_CHECKING:
    from ablations.study.study import AS_TRAINED as AS_TRAINED
    from ablations.study.study import Arm as Arm
    from ablations.study.study import Study as Study
    from ablations.study.study import grid_arms as grid_arms

__getattr__ = lazily(
    __name__, dict.fromkeys(("AS_TRAINED", "Arm", "Study", "grid_arms"), "ablations.study.study")
)
