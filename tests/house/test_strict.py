"""The strict reader: what configs write as JSON they are read from again; everything else is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.search import MODES, Search
from ablations.study.axes import Axis
from ablations.study.named import STUDIES
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig
from crossgap.settings.strict import strict
from pretrain.config import TrainConfig
from pretrain.recipes import KNOWN_RECIPES


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(asdict(value)))


@pytest.mark.parametrize("name", KNOWN_RECIPES)
def test_every_recipe_is_read_from_its_json(name: str) -> None:
    config = KNOWN_RECIPES[name]()
    assert strict(config.as_json(), TrainConfig, "") == config


@pytest.mark.parametrize("name", STUDIES)
def test_every_evaluation_and_axis_is_read_from_its_json(name: str) -> None:
    study = STUDIES[name]()
    assert strict(through_json(study.evaluation), EvaluationConfig, "") == study.evaluation
    for axis in study.axes:
        found = {key: value for key, value in through_json(axis).items() if value not in ([], {}, None)}
        assert strict(found, Axis, "") == axis


@pytest.mark.parametrize("mode", MODES)
def test_every_search_is_read_from_its_json(mode: Any) -> None:
    assert strict(through_json(MODES[mode]), Search, "") == MODES[mode]


KINDS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bool: st.booleans(),
    type(None): st.none(),
    list: st.lists(st.integers()),
    dict: st.dictionaries(st.text(), st.integers()),
}


@given(st.data())
def test_a_value_of_another_kind_is_refused_and_of_its_own_kept(data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from([int, float, str, bool]))
    kind = data.draw(st.sampled_from(list(KINDS)))
    value = data.draw(KINDS[kind])
    if kind is wanted or (wanted, kind) == (float, int):
        found = strict(value, wanted, "here")
        assert found == value or abs(found - value) <= abs(value) * 1e-15
        assert type(found) is wanted
    else:
        with pytest.raises(InputError, match=r"^here: "):
            strict(value, wanted, "here")


@dataclass(frozen=True)
class Part:
    size: int
    kind: Literal["round", "square"] = "round"


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...] = ()
    pair: tuple[int, str] = (0, "")
    named: Mapping[str, Part] = field(default_factory=dict)
    maybe: float | None = None
    either: int | str = 0
    free: Any = None

    def __post_init__(self) -> None:
        if self.maybe == 13:
            raise InputError("maybe=13 is refused")


def test_tables_lists_and_choices_by_hand() -> None:
    given_ = {
        "parts": [{"size": 1}, {"size": 2, "kind": "square"}],
        "pair": [3, "x"],
        "named": {"a": {"size": 4}},
        "maybe": 5,
        "either": "six",
        "free": [7, {"eight": None}],
    }
    assert strict(given_, Whole, "") == Whole(
        parts=(Part(1), Part(2, "square")),
        pair=(3, "x"),
        named={"a": Part(4)},
        maybe=5.0,
        either="six",
        free=[7, {"eight": None}],
    )
    assert strict({"maybe": None}, Whole, "") == Whole()


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (
            {"parts": [{"size": 1}, {"sise": 2}]},
            r"w.parts\[1\].sise: unknown key 'sise'. Did you mean 'size'\?",
        ),
        ({"parts": [{}]}, r"w.parts\[0\]: key 'size' is missing"),
        ({"parts": {"size": 1}}, r"w.parts: \{'size': 1\} is a table; it wants a list"),
        ({"parts": [{"size": 1, "kind": "rund"}]}, r"w.parts\[0\].kind: .*Did you mean 'round'\?"),
        (
            {"parts": [{"size": 1, "kind": 1}]},
            r"w.parts\[0\].kind: 1 is a whole number; it wants one of round, square",
        ),
        ({"pair": [1]}, r"w.pair: \[1\] has 1 entries; it wants 2"),
        ({"pair": ["x", 1]}, r"w.pair\[0\]: 'x' is text; it wants a whole number"),
        ({"named": {"a": {"size": "1"}}}, "w.named.a.size: '1' is text; it wants a whole number$"),
        ({"named": {1: {"size": 1}}}, "w.named: key 1 is no text"),
        ({"maybe": "0.5"}, "w.maybe: '0.5' is text; it wants a number; as a number: 0.5"),
        ({"maybe": float("inf")}, "w.maybe: inf must be finite"),
        ({"maybe": 13}, "w: maybe=13 is refused"),
        ({"either": 1.5}, "w.either: 1.5 is a number; it wants a whole number or text"),
        ({"maybe": 10**400}, "w.maybe: 1000+ is too large a number"),
        (3, "w: 3 is a whole number; it wants a table"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(given_: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        strict(given_, Whole, "w")
