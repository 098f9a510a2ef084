"""The demo's baseline trained in fp32 and in bf16: what do products in bfloat16 cost, in five paired seeds?

python -m ablations.sweep --study examples/studies/precision.py
"""

from dataclasses import replace

from ablations.study import Study
from ablations.study.named import demo


def study() -> Study:
    """Train one arm twice, in fp32 and in bf16."""
    whole = demo()
    baseline = whole.arm("baseline")
    bf16 = replace(
        baseline,
        name="bf16",
        label="bf16",
        description="products in bfloat16; weights, moments, norms, logits and loss in float32",
        train=replace(baseline.train, precision="bf16"),
    )
    return replace(
        whole,
        name="precision",
        description="Does training in bf16 change what is measured?",
        arms=(baseline, bf16),
        seeds=(0, 1, 2, 3, 4),
    )
