"""What a study asks for, looked at before anything is trained or encoded: data, routes, prompts, tokens."""

from __future__ import annotations

from open_clip import SimpleTokenizer

from ablations.study.study import AS_TRAINED, Arm, Study
from crossgap.datasets.load import load_dataset
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError, naming
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.evaluation.routes import ROUTES, direction
from pretrain.data.pairs import shards_of


def check_study(plan: Study) -> list[str]:
    """Refuse what would fail after hours; return a line for each route that these data cannot show.

    Raises:
        InputError: training data or a dataset that are not there or have no task, a route that inverts
            without a plan, a prompt or pseudo-tokens that the models of an arm do not take.
    """
    for arm in plan.arms:
        with naming(f"study {plan.name!r}, arm {arm.name!r}, train.data"):
            shards_of(arm.train.data)
    name = plan.arm(plan.baseline).train.data if plan.dataset == AS_TRAINED else plan.dataset
    with naming(f"study {plan.name!r}, dataset"):
        test = load_dataset(name, split=plan.search.split, limit=plan.limit)
        if not test.tasks:
            raise InputError(f"{name!r}, split {plan.search.split!r}: no task can be made of it")
    for arm in plan.arms:
        with naming(f"study {plan.name!r}, arm {arm.name!r}, evaluation"):
            _check_evaluation(arm.evaluation or plan.evaluation, test)
            _check_prompts(arm.evaluation or plan.evaluation, arm)
    return _not_shown(plan.evaluation, test)


def _check_evaluation(evaluation: EvaluationConfig, test: Dataset) -> None:
    for task in test.tasks:
        for route in evaluation.routes:
            into = direction(route, task.kind) if task.kind in ROUTES[route].kinds else None
            if into is not None and into not in evaluation.plans:
                raise InputError(
                    f"route {route!r} inverts into {into}, and there is no plan for it; give plans[{into!r}] "
                    "or leave the route out"
                )


def _check_prompts(evaluation: EvaluationConfig, arm: Arm) -> None:
    """Count tokens and patches; of another than the small one nothing is known before it is built."""
    model = arm.train.model
    if not arm.train.builds_model:
        return
    for into, plan in evaluation.plans.items():
        for config in plan.configs:
            if into == "image":
                patches = (model.image_size // model.patch_size) ** 2
                if config.num_tokens > patches:
                    raise InputError(
                        f"image.num_tokens {config.num_tokens} exceeds the {patches} patches of the model"
                    )
                continue
            words = len(SimpleTokenizer().encode(config.template.replace("{}", " ")))
            needed = words + config.num_tokens + 2  # start and end of text
            if needed > model.context_length:
                raise InputError(
                    f"text.template {config.template!r} with {config.num_tokens} pseudo-tokens takes "
                    f"{needed} tokens; the model has {model.context_length} (train.model.context_length)"
                )


def _not_shown(evaluation: EvaluationConfig, test: Dataset) -> list[str]:
    kinds = {task.kind for task in test.tasks}
    return [
        f"route {route} will not be measured: {test.name} has no task of kind "
        f"{' or '.join(ROUTES[route].kinds)}"
        for route in evaluation.routes
        if not kinds & set(ROUTES[route].kinds)
    ]
