"""A study with some of its settings changed on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from ablations import search
from ablations.search import Mode
from ablations.study.arms import plans_of_the_demo, world_of
from ablations.study.axes import check_setting
from ablations.study.study import Arm, Study
from crossgap.errors import InputError, check_known
from crossgap.evaluation.changed_plans import changed_evaluation
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.inversion.presets import preset
from crossgap.settings.changes import changed, nested
from crossgap.settings.strict import hints_of, strict
from pretrain.config import TrainConfig
from pretrain.configure import configure

# settings of a study itself; its seeds, mode and name have options of their own
_OWN = ("description", "dataset", "limit", "processes", "core_seconds")
_TRAIN = "train."
# the first parts of paths: as in a study's file, or, of a training, as an axis is named
SETTINGS = (
    *_OWN,
    "train",
    "evaluation",
    "search",
    *(name for name in hints_of(TrainConfig) if name not in _OWN),
)


def changed_study(study: Study, settings: Mapping[str, Any]) -> Study:
    """Return a study with settings changed, those of the training in all its arms.

    Settings are named as in a study's file (``train.model.width``, ``evaluation.text.steps``,
    ``search.tune.trials``, ``limit``); those of the training also as axes are (``model.width``).

    Raises:
        InputError: a name that is no setting, a value of another kind, or one that the study refuses.
    """
    own = {name: value for name, value in settings.items() if name in _OWN}
    of_evaluation = {name: value for name, value in settings.items() if name.startswith("evaluation.")}
    of_search = {name: value for name, value in settings.items() if name.startswith("search.")}
    others = {**own, **of_evaluation, **of_search}
    train = {name.removeprefix(_TRAIN): value for name, value in settings.items() if name not in others}
    for name in train:
        check_setting(name)
    given = nested(of_evaluation).get("evaluation", {})

    def measured(evaluation: EvaluationConfig) -> EvaluationConfig:
        if not given:
            return evaluation
        plans = plans_of_the_demo(world_of(own.get("dataset", study.dataset)))
        return changed_evaluation(evaluation, given, plans=plans, preset=partial(preset, "any"))

    def of(arm: Arm) -> Arm:
        kept = None if arm.evaluation is None else measured(arm.evaluation)
        return replace(arm, train=configure(arm.train, train), evaluation=kept)

    hints = hints_of(Study)
    searches: dict[Mode, Any] = dict(study.searches)
    for mode, entries in nested(of_search).get("search", {}).items():
        check_known(mode, get_args(Mode), "mode of a study")
        if not isinstance(entries, Mapping):
            raise InputError(f"search.{mode}: name one of its parts, as search.{mode}.trials")
        searches[mode] = changed(searches.get(mode, search.MODES[mode]), entries, where=f"search.{mode}")
    return replace(
        study,
        arms=tuple(of(arm) for arm in study.arms),
        evaluation=measured(study.evaluation),
        searches=searches,
        **{name: strict(value, hints[name], name) for name, value in own.items()},
    )
