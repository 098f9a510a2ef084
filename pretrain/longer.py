"""Whether a training can go on for more steps than were planned: if its past would have been the same."""

from __future__ import annotations

from dataclasses import replace

from pretrain.config import TrainConfig
from pretrain.terms import TERMS


def why_not_longer(planned: TrainConfig, steps: int, *, reached: int) -> str | None:
    """Say why the first ``reached`` steps would have been others in a run of ``steps``; None if the same.

    Then what was trained is the beginning of the longer run, bit by bit.
    """
    if steps < reached:
        return f"it has reached step {reached} already"
    longer = replace(planned, steps=steps)
    before, temperature = range(reached), planned.objective.temperature
    if any(planned.rate(step) != longer.rate(step) for step in before):
        if planned.schedule == "cosine":
            return (
                f"its learning rate follows a cosine that ends at 0 after {planned.steps} steps; a training "
                "that may go on wants --schedule constant from its start"
            )
        return f"its warm-up of {planned.warmup_steps} steps is cut to half of {planned.steps} steps"
    if temperature.scheduled:
        return f"its temperature is on a schedule ({temperature.regime}) over {planned.steps} steps"
    weights = planned.objective.weights_at
    if any(weights(step, planned.steps) != weights(step, steps) for step in before):
        return f"a term's weight is on a schedule over {planned.steps} steps"
    for name in planned.objective.active:
        if TERMS[name].progress:
            return f"the term {name} depends on the share of {planned.steps} steps that is done"
    return None
