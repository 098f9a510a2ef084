"""Studies over the world of scenes: axes of what captions say, and where each arm is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.running import trial
from ablations.study.axes import Axis, check_axes, describe
from ablations.study.files import read_study
from ablations.study.named import STUDIES
from ablations.study.study import AS_TRAINED, Arm, Study, grid_arms
from analysis.designs import changes
from crossgap.datasets.load import load_dataset
from crossgap.datasets.scenes.options import SceneOptions
from crossgap.datasets.tasks import Dataset
from crossgap.errors import InputError
from crossgap.reading.treatment import flat
from pretrain.config import TrainConfig
from pretrain.configure import configure
from pretrain.recipes import RECIPES

BASE = replace(RECIPES["baseline"](), data="scenes:mention=0.3,pairs=500")
MENTION = Axis(name="data.mention", choices=(0.0, 0.3, 1.0))


def arm(name: str, data: str) -> Arm:
    return Arm(name=name, label=name, description="", train=replace(BASE, data=data))


def study(*arms: Arm, axes: tuple[Axis, ...] = ()) -> Study:
    demo = STUDIES["demo"]()
    return Study(
        name="worlds", description="", arms=arms, baseline=arms[0].name, seeds=(0,), axes=axes,
        evaluation=demo.evaluation, dataset=AS_TRAINED,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"data.mention": 0.6}, "scenes:version=1,mention=0.6,pairs=500"),
        ({"data.mention": 1}, "scenes:version=1,mention=1,pairs=500"),
        ({"data.caption_noise": 0.1, "data.objects": 50}, "caption_noise=0.1,objects=50"),
        ({"data.mention": 0.1, "data.mention.colour": 0.9}, "mention=0.1,mention.colour=0.9,pairs=500"),
        ({"data": "scenes:objects=20", "data.mention": 0.5}, "scenes:version=1,mention=0.5,objects=20"),
    ],
)
def test_options_of_the_data_are_settings(settings: dict[str, Any], name: str) -> None:
    config = configure(BASE, settings)
    assert name in config.data
    assert replace(config, data=BASE.data) == BASE
    rates = configure(BASE, {**settings, "learning_rate": 0.5})
    assert rates == replace(config, learning_rate=0.5)


def test_the_default_is_the_base_itself() -> None:
    assert configure(BASE, {"data.mention": 0.3}) == BASE
    assert [arm.name for arm in grid_arms(arm("base", BASE.data), [MENTION])] == ["base", "g-0", "g-2"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"data.mention": 1.5}, "between 0 and 1"),
        ({"data.menton": 0.5}, "menton.*Did you mean 'mention'"),
        ({"data.objects": 20.5}, "objects=20.5: expected a whole number"),
        ({"data.mention": True}, "mention=True: expected a number"),
        ({"data.version": 9}, "version=9 is another world"),
        ({"data": "emoji", "data.mention": 0.5}, "data.mention: data='emoji' has no options"),
    ],
)
def test_a_wrong_option_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        configure(BASE, settings)


def test_an_axis_over_data_that_has_no_options_is_refused_by_name() -> None:
    check_axes((MENTION,), BASE)
    with pytest.raises(
        InputError, match=r"axis 'data.mention', value 0.0: .*'emoji' has no options.*mention"
    ):
        check_axes((MENTION,), RECIPES["baseline"]())
    with pytest.raises(InputError, match=r"axis 'data.objects', value 999: .*objects=999"):
        check_axes((Axis(name="data.objects", choices=(50, 999)),), BASE)
    drawn = Axis(name="data.mention", low=0.0, high=1.0, grid=(0.0, 1.0))
    check_axes(
        (drawn, Axis(name="data.mention.colour", choices=(0.0, 1.0), when={"data.mention": 0.5})), BASE
    )


def test_legends_name_the_option() -> None:
    assert describe({"data.mention": 0.3, "data.caption_noise": 0.1}) == "mention 0.3, caption noise 0.1"
    assert describe({"data.mention.colour": 1.0}) == "mention colour 1"


def test_a_file_may_vary_what_captions_say(tmp_path: Path) -> None:
    path = tmp_path / "says.toml"
    path.write_text(
        f'dataset = "{AS_TRAINED}"\ncross = true\n[train]\ndata = "scenes:pairs=500"\n'
        '[[axes]]\nname = "data.mention"\nchoices = [0.0, 0.6]\n'
        '[[axes]]\nname = "objective.weights.image_ntxent"\nchoices = [0.0, 1.0]\n'
    )
    made = read_study(path)
    assert made.dataset == AS_TRAINED
    says = [SceneOptions.parse(each.train.data).mention for each in made.arms]
    assert says == [0.3, 0.0, 0.0, 0.6, 0.6]
    path.write_text('[[axes]]\nname = "data.mention"\nchoices = [0.0, 0.6]\n')
    with pytest.raises(InputError, match=r"axes: axis 'data.mention'.*'emoji' has no options"):
        read_study(path)


def test_a_study_writes_options_one_by_one() -> None:
    made = study(arm("base", BASE.data), arm("more", "scenes:mention=0.6,pairs=500"))
    arms = made.as_json()["definition"]["arms"]
    assert flat(arms["base"])["data.mention"] == 0.3
    assert changes(arms, "base")["more"] == {"data.mention": 0.6}
    plain = STUDIES["demo"]("emoji").as_json()["definition"]["arms"]["baseline"]
    assert plain["data"] == "emoji"


def test_arms_are_measured_on_their_own_world_where_scenes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(arm("base", BASE.data), arm("more", "scenes:mention=0.6,caption_noise=0.1"), axes=(MENTION,))
    asked: list[tuple[str, str, int | None]] = []

    def load(name: str, *, split: str, limit: int | None) -> Dataset:
        asked.append((name, split, limit))
        return load_dataset("emoji", split=split, limit=20)

    monkeypatch.setattr(trial, "load_dataset", load)
    spec = trial.TrialSpec(
        study="s", arm=made.arms[1], seed=0, evaluation=made.evaluation, dataset=AS_TRAINED, limit=7,
        split="test", processes=1, device="cpu", threads=1, folder=tmp_path, stages=tmp_path,
    )  # fmt: skip
    measured = trial._measured_on(spec, "val")
    assert asked == [("scenes:version=1,mention=0.6,caption_noise=0.1", "val", 7)]
    assert {measured.name, *(task.dataset for task in measured.tasks)} == {AS_TRAINED}
    fixed = trial._measured_on(replace(spec, dataset="emoji"), "test")
    assert asked[1:] == [("emoji", "test", 7)]
    assert {fixed.name, *(task.dataset for task in fixed.tasks)} == {"emoji"}
    asked.clear()
    for split in ("test", "sealed", "val"):
        trial._reported_and_val(replace(spec, split=split))
    assert [split for _, split, _ in asked] == ["test", "val", "sealed", "val", "val"]


@pytest.mark.parametrize(
    ("data", "axes", "says"),
    [
        ("scenes:objects=50", (), "arm 'other'.*shows other scenes"),
        ("scenes:world=1", (), "arm 'other'.*shows other scenes"),
        ("emoji", (), "arm 'other' is trained on 'emoji'"),
        ("scenes", (Axis(name="data.second", choices=(0.0, 0.3)),), "axis 'data.second', value 0.0"),
        ("scenes", (Axis(name="data", choices=("scenes", "emoji")),), "axis 'data', value 'emoji'"),
    ],
)
def test_other_scenes_cannot_be_measured_as_trained(data: str, axes: tuple[Axis, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        study(arm("base", BASE.data), arm("other", data), axes=axes)


def test_what_only_captions_and_training_differ_in_is_the_same_scenes() -> None:
    world = SceneOptions()
    same = {"mention": 0.9, "mention.place": 0.1, "caption_noise": 0.5, "num_captions": 4, "pairs": 99}
    for option, value in same.items():
        assert world.same_scenes(world.changed({option: value}))
    other = {"objects": 99, "second": 0.1, "scenes": 400, "fit": 500, "world": 3}
    for option, value in other.items():
        assert not world.same_scenes(world.changed({option: value}))
    assert {*same, *other} | {"version", "mention.size", "mention.colour", "mention.second"} == {
        *world.as_written()
    }


def test_names_give_their_numbers_again() -> None:
    for options in (SceneOptions(pairs=1_234_567, world=2**31 - 1), SceneOptions(mention=0.12345678901)):
        assert SceneOptions.parse(options.name) == options
        assert TrainConfig(recipe="baseline", data=options.name).data == options.name
