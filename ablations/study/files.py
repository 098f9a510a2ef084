"""A user's own study: a Python function, or a TOML or YAML file that is checked key by key.

docs/studies.md shows both, and what a file may say.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from ablations import search
from ablations.search import Mode, Search
from ablations.study.arms import ROUTES, World, plans_of_the_demo, world_of
from ablations.study.axes import Axis, check_axes, check_setting, describe
from ablations.study.named import STUDIES
from ablations.study.own_terms import TermSource, run_file
from ablations.study.study import Arm, Study, grid_arms
from crossgap.errors import InputError, check_known, naming
from crossgap.evaluation.changed_plans import changed_evaluation
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.inversion.presets import preset
from crossgap.settings.changes import dotted
from crossgap.settings.documents import READERS, read_document
from crossgap.settings.strict import fields_of, hints_of, strict
from pretrain.config import TrainConfig
from pretrain.configure import configure
from pretrain.labels import description_of, label_of
from pretrain.recipes import KNOWN_RECIPES

Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _ArmEntry:
    """An entry of ``[[arms]]``: a recipe instead of the base, settings on top of ``[train]``, or both."""

    name: str
    label: str | None = None
    description: str | None = None
    recipe: str | None = None
    train: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Document:
    """What a file may say at its top; the defaults are those of the demo."""

    name: str | None = None
    description: str = ""
    base: str = "baseline"
    seeds: tuple[int, ...] = (0, 1)
    dataset: str = "emoji"
    limit: int | None = None
    mode: Mode = "grid"
    processes: int = 1
    core_seconds: float = 200.0
    cross: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)
    arms: tuple[_ArmEntry, ...] = ()
    axes: tuple[Axis, ...] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[Mode, Mapping[str, Any]] = field(default_factory=dict)


def find_study(name: str, data: str | None = None) -> Study:
    """Return a named study, or the one of a file: ``FILE.toml``, ``FILE.yaml``, ``FILE.py[:FUNCTION]``.

    Args:
        name: of the study, or of the file.
        data: the world that a named study runs on, scenes or emoji; default: its own.

    Raises:
        InputError: neither a named study nor a file that holds one, an unknown world, or one for a file.
    """
    if name in STUDIES:
        if data is None:
            return STUDIES[name]()
        return STUDIES[name](check_known(data, get_args(World), "world of a study"))
    if data is not None:
        raise InputError(f"--data {data} is for named studies; {name!r} says itself what it trains on")
    file, _, function = name.partition(".py:")
    if function:
        return read_study(Path(f"{file}.py"), function)
    if Path(name).suffix in (".py", *READERS):
        return read_study(Path(name))
    if Path(name).is_file():
        raise InputError(f"study file {name!r}: its name must end in {', '.join(('.py', *READERS))}")
    check_known(name, STUDIES, "study")
    raise AssertionError("check_known returns only known names")


def read_study(path: Path, function: str = "study") -> Study:
    """Read a study from a file.

    A ``.py`` file is run: its code can do whatever its user can. Its ``function`` is called without arguments
    and returns a :class:`ablations.study.Study`; an exception in it keeps its traceback. Processes that train
    with a term that it registers run it again. A ``.toml``,
    ``.yaml`` or ``.yml`` file is only read.

    Args:
        path: of the file.
        function: of a ``.py`` file.

    Raises:
        InputError: no such file or function, something else than a study, or a document with an unknown key,
            a value of another kind or one that is refused; the message names the file and the key's path.
    """
    if path.suffix != ".py":
        check_known(path.suffix, [*READERS, ".py"], f"ending of the study file {str(path)!r}:")
    if not path.is_file():
        raise InputError(f"study file {str(path)!r} does not exist")
    if path.suffix == ".py":
        return _called(path, function)
    if function != "study":
        raise InputError(f"{path} has no functions: {function!r} can be named of a .py file alone")
    document = read_document(path, "study file")
    with naming(str(path)):
        return _study(strict(document, _Document, ""), path.stem)


def _called(path: Path, function: str) -> Study:
    module = run_file(path.resolve())
    functions = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    build = getattr(module, function, None)
    if build is None:
        raise InputError(
            f"{path}: it has no function {function!r}; it has {', '.join(functions) or 'none'}. Name another "
            f"as {path}:FUNCTION"
        )
    if not callable(build):
        raise InputError(f"{path}: {function!r} is no function but {build!r}")
    wanted = [
        name
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in (2, 4)  # not *args, **kwargs
    ]
    if wanted:
        raise InputError(f"{path}: {function}({', '.join(wanted)}) is called without arguments")
    study = build()
    if not isinstance(study, Study):
        raise InputError(f"{path}: {function}() returned {study!r}, not an ablations.study.Study")
    return replace(study, source=TermSource(file=path.resolve(), function=function))


def _study(document: _Document, stem: str) -> Study:
    with naming("base"):
        check_known(document.base, KNOWN_RECIPES, "recipe")
    trained = _configured(_trained(document.base), document.train, "train")
    baseline = Arm(
        name=document.base,
        label=label_of(trained, beside=trained),
        description=description_of(trained),
        train=trained,
    )
    evaluation = _evaluation(document.evaluation, world_of(document.dataset))
    with naming("axes"):
        check_axes(document.axes, baseline.train, evaluation)
    arms = list(grid_arms(baseline, document.axes, evaluation)) if document.cross else [baseline]
    if document.cross and not document.axes:
        raise InputError("cross: there are no axes to cross")
    for place, entry in enumerate(document.arms):
        arms.append(_arm(entry, document, baseline, f"arms[{place}]"))
        for other in arms[:-1]:
            alike = replace(arms[-1].train, recipe="") == replace(other.train, recipe="")
            if alike and arms[-1].evaluation == other.evaluation:
                raise InputError(f"arms[{place}]: {entry.name!r} is trained exactly as {other.name!r}")
    return Study(
        name=document.name or stem,
        description=document.description,
        arms=tuple(arms),
        baseline=baseline.name,
        seeds=document.seeds,
        evaluation=evaluation,
        dataset=document.dataset,
        limit=document.limit,
        axes=document.axes,
        mode=document.mode,
        searches={mode: _search(mode, entry) for mode, entry in document.search.items()},
        processes=document.processes,
        core_seconds=document.core_seconds,
    )


def _trained(recipe: str) -> TrainConfig:
    return replace(KNOWN_RECIPES[recipe](), threads=1)


def _arm(entry: _ArmEntry, document: _Document, baseline: Arm, path: str) -> Arm:
    train = baseline.train
    settings = dotted(entry.train)
    label = describe(settings)
    description = "; ".join(f"{name} = {value}" for name, value in settings.items())
    if entry.recipe is not None:
        with naming(f"{path}.recipe"):
            check_known(entry.recipe, KNOWN_RECIPES, "recipe")
        train = _configured(_trained(entry.recipe), document.train, f"{path} with [train]")
    train = _configured(train, entry.train, f"{path}.train")
    if entry.recipe is not None:
        label, description = label_of(train, beside=baseline.train), description_of(train)
    with naming(path):
        return Arm(
            name=entry.name,
            label=label if entry.label is None else entry.label,
            description=description if entry.description is None else entry.description,
            train=train,
        )


def _configured(base: TrainConfig, table: Table, path: str) -> TrainConfig:
    settings = dotted(table)
    for name in settings:
        with naming(f"{path}.{name}"):
            check_setting(name)
    return configure(base, settings, where=path)


def _evaluation(given: Table, data: World) -> EvaluationConfig:
    base = EvaluationConfig(routes=ROUTES)
    return changed_evaluation(base, given, plans=plans_of_the_demo(data), preset=partial(preset, "any"))


def _search(mode: Mode, given: Table) -> Search:
    path = f"search.{mode}"
    changes = fields_of(given, hints_of(Search), path)
    with naming(path):
        return replace(search.MODES[mode], **changes)
