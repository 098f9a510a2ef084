"""A user's own study: the examples in their three forms, and what a file may not say, told by its place."""

from __future__ import annotations

import json
import sys
import tomllib
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ablations import runs
from ablations.search import MODES
from ablations.study.arms import ROUTES, plans_of_the_demo
from ablations.study.axes import Axis
from ablations.study.files import find_study, read_study
from ablations.study.named import STUDIES
from ablations.study.study import Study
from crossgap.command import run_command
from crossgap.errors import InputError
from crossgap.inversion.config import InversionConfig
from pretrain.recipes import FINE_TUNING, RECIPES
from pretrain.settings import WeightSchedule

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples" / "studies"
ARM = "[[arms]]\nname = 'a'\n"


def written(folder: Path, text: str, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def read(folder: Path, text: str, name: str = "own.toml") -> Study:
    return read_study(written(folder, text, name))


# the examples


def test_the_example_is_the_same_study_in_toml_yaml_and_python(tmp_path: Path) -> None:
    in_toml = read_study(EXAMPLES / "weights.toml")
    assert read_study(EXAMPLES / "weights.py") == in_toml
    document = yaml.safe_dump(tomllib.loads((EXAMPLES / "weights.toml").read_text()))
    assert read(tmp_path, document, "weights.yaml") == in_toml
    assert [arm.name for arm in in_toml.arms] == [
        "baseline", "g-0-1", "g-1-0", "g-1-1", "g-2-0", "g-2-1", "siglip", "slow",
    ]  # fmt: skip
    assert {arm.train.steps for arm in in_toml.arms} == {300}
    assert in_toml.searches == {"tune": replace(MODES["tune"], trials=30)}
    json.dumps(in_toml.as_json())


def test_the_example_with_an_axis_that_depends_on_another() -> None:
    study = read_study(EXAMPLES / "schedules.yaml")
    assert [arm.label for arm in study.arms[1:]] == [
        "regime learnable", "regime linear, final 0.02", "regime linear, final 0.05",
    ]  # fmt: skip
    assert study.evaluation.plans["text"] == replace(
        plans_of_the_demo("emoji")["text"], learning_rates=(0.01, 0.02)
    )
    assert study.evaluation.plans["image"] == plans_of_the_demo("emoji")["image"]


def test_the_example_that_is_a_part_of_a_named_study() -> None:
    study, whole = read_study(EXAMPLES / "part_of_map.py"), STUDIES["map"]()
    assert study == replace(whole, arms=study.arms)
    assert len(study.arms) == 5
    assert all(arm in whole.arms for arm in study.arms)


def test_the_example_of_inversion_beside_maps_has_models_of_claims() -> None:
    study, whole = read_study(EXAMPLES / "inversion_on_scenes.py"), STUDIES["claims"]()
    assert len(study.arms) == 3
    assert all(arm in whole.arms for arm in study.arms)
    assert study.seeds == whole.seeds == (0, 1, 2, 3, 4)
    assert study.evaluation.plans == whole.evaluation.plans


def test_the_example_of_precisions_differs_in_nothing_else() -> None:
    study = read_study(EXAMPLES / "precision.py")
    fp32, bf16 = study.arms
    assert fp32 == STUDIES["demo"]().arm("baseline")
    assert bf16.train == replace(fp32.train, precision="bf16")
    assert len(study.seeds) == 5


@pytest.mark.parametrize(
    "name", ["joint.toml", "part_of_map.py", "schedules.yaml", "weights.py", "weights.toml"]
)
def test_the_documentation_shows_the_examples_as_they_are(name: str) -> None:
    fence = {"toml": "toml", "yaml": "yaml", "py": "python"}[name.rsplit(".", 1)[-1]]
    shown = f"```{fence}\n{(EXAMPLES / name).read_text()}```"
    assert shown in (ROOT / "docs" / "studies.md").read_text()


# defaults


def test_an_almost_empty_file_is_the_demo_with_one_arm(tmp_path: Path) -> None:
    study = read(tmp_path, ARM + "recipe = 'siglip'\n")
    demo = STUDIES["demo"]("emoji")
    assert (study.name, study.seeds, study.dataset, study.mode) == ("own", demo.seeds, demo.dataset, "grid")
    assert study.arm("baseline") == demo.arm("baseline")
    assert study.arm("a").train == replace(RECIPES["siglip"](), threads=1)
    assert study.arm("a").label == RECIPES["siglip"].label
    assert study.evaluation == demo.evaluation
    assert study.evaluation.routes == ROUTES


@pytest.mark.parametrize("dataset", ["scenes:mention=0.3", "as trained"])
def test_a_file_about_scenes_inverts_as_the_demo_does_there(tmp_path: Path, dataset: str) -> None:
    study = read(tmp_path, f"dataset = '{dataset}'\ntrain.data = 'scenes'\n{ARM}train.steps = 9\n")
    assert study.evaluation.plans == plans_of_the_demo("scenes")


def test_the_base_is_always_an_arm_and_the_baseline(tmp_path: Path) -> None:
    text = "base = 'fine-tune-01'\n[train]\ndata = 'x.tar'\n[[arms]]\nname = 'a'\nrecipe = 'fine-tune-100'\n"
    study = read(tmp_path, text)
    assert study.baseline == "fine-tune-01"
    for name, recipe in (("fine-tune-01", "fine-tune-01"), ("a", "fine-tune-100")):
        assert study.arm(name).train == replace(FINE_TUNING[recipe](), data="x.tar", threads=1)


def test_settings_of_arms_stand_on_those_that_all_share(tmp_path: Path) -> None:
    text = (
        "[train]\nsteps = 40\nbetas = [0.9, 0.95]\n"
        + ARM
        + "recipe = 'image-image'\nlabel = 'L'\n[arms.train]\nobjective.weights.image_ntxent = 2\n"
        "extra_augment = {brightness = 0.5}\n"
    )
    arm = read(tmp_path, text).arm("a")
    assert (arm.train.steps, arm.train.betas, arm.label) == (40, (0.9, 0.95), "L")
    assert arm.train.objective.weights == {"clip": 1.0, "image_ntxent": 2.0}
    assert arm.train.extra_augment is not None
    assert arm.train.extra_augment.brightness == 0.5
    for said in ("steps = 40", "objective.weights.image_ntxent = 2", "extra_augment.brightness = 0.5"):
        assert said in arm.description


def test_a_file_says_when_a_weight_falls_to_0(tmp_path: Path) -> None:
    text = (
        ARM + "recipe = 'centroid'\n[arms.train]\nobjective.schedules.centroid_penalty.stop = 0.8\n"
        "objective.schedules.centroid_penalty.fall = 0.5\n"
    )
    schedules = read(tmp_path, text).arm("a").train.objective.schedules
    assert schedules == {"centroid_penalty": WeightSchedule(stop=0.8, fall=0.5)}


def test_quoted_dotted_names_are_settings_too(tmp_path: Path) -> None:
    nested = read(tmp_path, ARM + "train.objective.weights.mmd = 1\n")
    assert read(tmp_path, ARM + "train = {'objective.weights.mmd' = 1}\n") == nested


def test_a_plan_takes_a_schedule_or_settings_of_its_own(tmp_path: Path) -> None:
    text = (
        "[evaluation.text]\nsteps = 60\nlearning_rates = [0.01, 0.02]\n"
        "[evaluation.image]\nschedule = 'paper'\ntoken_counts = [2]\nsnapshots = [0, 500]\n"
    )
    plans = read(tmp_path, text).evaluation.plans
    assert plans["text"].config == InversionConfig(steps=60, batch_size=128)
    assert plans["text"].snapshots == (0, 2, 4, 8, 15, 30, 60)
    assert plans["text"].learning_rates == (0.01, 0.02)
    assert plans["image"].config == InversionConfig(steps=1000, batch_size=128)
    assert (plans["image"].token_counts, plans["image"].snapshots) == ((2,), (0, 500))


def test_no_plan_where_no_route_inverts(tmp_path: Path) -> None:
    assert read(tmp_path, "[evaluation]\nroutes = ['native', 'centred']\n").evaluation.plans == {}
    assert set(read(tmp_path, "[evaluation]\nroutes = ['oti']\n").evaluation.plans) == {"text"}


def test_whole_bounds_stay_whole(tmp_path: Path) -> None:
    axes = read(tmp_path, "[[axes]]\nname = 'steps'\nlow = 10\nhigh = 50\n").axes
    assert axes == (Axis(name="steps", low=10, high=50),)
    assert type(axes[0].low) is int


# what a file may not say

TOML_ERRORS = [
    ("nam = 'x'", r"nam: unknown key 'nam'. Did you mean 'name'\?"),
    ("seeds = 3", "seeds: 3 is a whole number; it wants a list"),
    ("seeds = [0, '1']", r"seeds\[1\]: '1' is text; it wants a whole number"),
    ("seeds = [1, 1]", "must be distinct"),
    ("limit = 2.5", "limit: 2.5 is a number; it wants a whole number"),
    ("core_seconds = true", "core_seconds: True is true or false; it wants a number"),
    ("core_seconds = nan", "core_seconds: nan must be finite"),
    ("cross = 1", "cross: 1 is a whole number; it wants true or false"),
    ("cross = true", "cross: there are no axes"),
    ("mode = 'gird'", r"mode: unknown value 'gird'. Did you mean 'grid'\?"),
    ("mode = 'tune'", "has no axes"),
    (
        "mode = 'tune'\n"
        + ARM
        + "recipe = 'slip'\n[[axes]]\nname = 'learning_rate'\nlow = 1e-4\nhigh = 1e-2",
        "study 'own': mode 'tune' compares the points that it draws with the baseline alone",
    ),
    ("name = '../own'", "study name '../own' must be letters"),
    ("base = 'basline'", r"base: unknown recipe 'basline'. Did you mean 'baseline'\?"),
    ("train.step = 3", r"train.step: unknown setting 'step'. Did you mean 'steps'\?"),
    ("train.seed = 3", "train.seed: setting 'seed' is not a study's to change"),
    ("train.betas = [0.9]", r"train.betas: \[0.9\] has 1 entries; it wants 2"),
    ("train = 3", "train: 3 is a whole number; it wants a table"),
    ("arms = 'a'", "arms: 'a' is text; it wants a list"),
    ("arms = ['a']", r"arms\[0\]: 'a' is text; it wants a table"),
    ("arms = [{recipe = 'slip'}]", r"arms\[0\]: key 'name' is missing"),
    (ARM, r"arms\[0\]: 'a' is trained exactly as 'baseline'"),
    (
        ARM + "recipe = 'slip'\n[[arms]]\nname='b'\nrecipe = 'slip'",
        r"arms\[1\]: 'b' is trained exactly as 'a'",
    ),
    (ARM + "recipe = 'slip'\n" + ARM + "recipe = 'mmd'", "not distinct"),
    (ARM + "recipe = 'slop'", r"arms\[0\].recipe: unknown recipe 'slop'. Did you mean 'slip'\?"),
    (ARM + "train.steps = '3'", r"arms\[0\].train.steps: '3' is text; it wants a whole number"),
    (ARM + "train.steps = 0", r"arms\[0\].train: steps=0: must be at least 1"),
    (ARM + "train.stps = 3", r"arms\[0\].train.stps: unknown setting 'stps'. Did you mean 'steps'\?"),
    (
        ARM + "train.objective.weights.siglib = 1",
        r"arms\[0\].train.objective: unknown term of the objective 'siglib'. Did you mean 'siglip'\?",
    ),
    (ARM + "train.model.width = 100\ntrain.model.heads = 3", r"arms\[0\].train.model: width=100"),
    ("[[arms]]\nname = 'A a'\nrecipe = 'slip'", r"arms\[0\]: arm name 'A a'"),
    ("[[axes]]\nname = 'stps'\nchoices = [1]", r"axes: axis 'stps', value 1: .*Did you mean 'steps'\?"),
    ("[[axes]]\nname = 'steps'\nlwo = 1", r"axes\[0\].lwo: unknown key 'lwo'. Did you mean 'low'\?"),
    ("[[axes]]\nname = 'steps'\nlow = 3\nhigh = 1", r"axes\[0\]: axis 'steps': low=3"),
    ("[[axes]]\nname = 'steps'\nchoices = [[1]]", r"axes\[0\].choices\[0\]: \[1\] is a list; it wants"),
    (
        "[evaluation]\nroutes = ['nativ']",
        r"evaluation.routes: unknown route 'nativ'. Did you mean 'native'\?",
    ),
    ("[evaluation]\nplans = {}", "evaluation.plans: unknown key 'plans'"),
    ("[evaluation.text]\nshedule = 'fast'", r"evaluation.text.shedule: .*Did you mean 'schedule'\?"),
    ("[evaluation.text]\nschedule = 'quick'", "evaluation.text.schedule: unknown value 'quick'"),
    ("[evaluation.text]\ntoken_count = 2", r"token_count: unknown key .*Did you mean 'token_counts'\?"),
    (
        "[evaluation.text]\nsteps = 10\nsnapshots = [20]",
        r"evaluation.text: snapshot steps \[20\] lie outside",
    ),
    ("[evaluation.text]\nsteps = -1", "evaluation.text: steps must be at least 0"),
    ("[evaluation]\nroutes = ['native']\ntext.steps = 3", "evaluation.text: no route inverts into text"),
    ("[search.tun]\ntrials = 3", r"search.tun: unknown value 'tun'. Did you mean 'tune'\?"),
    ("[search.tune]\ntrial = 3", r"search.tune.trial: unknown key 'trial'. Did you mean 'trials'\?"),
    ("[search.tune]\ntrials = 0", "search.tune: search: trials=0"),
    ("[search.tune]\nsampler = 'TPE'", r"search.tune: .*Did you mean 'TPESampler'\?"),
    ("[search.tune]\nsplit = 'test'", "split must be 'val'"),
    ("seeds = ", "is no TOML: "),
    ("seeds = [0]\nseeds = [1]", "is no TOML: "),
]


@pytest.mark.parametrize(("text", "said"), TOML_ERRORS)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as found:
        read(tmp_path, text)
    assert str(found.value).startswith(f"{tmp_path / 'own.toml'}: ")


YAML_ERRORS = [
    ("seeds: [0]\nseeds: [1]", "line 2: key 'seeds' is there twice"),
    ("arms:\n  - name: a\n    train:\n      steps: 3\n      steps: 4", "line 5: key 'steps' is there twice"),
    ("train: {learning_rate: 1e-3}", "train.learning_rate: '1e-3' is text; .*0.001.*with a point"),
    ("train: {1: 2}", "train: key 1 is no text"),
    ("seeds: [0", "is no YAML: "),
    ("- 1", r"document: \[1\] is a list; it wants a table"),
    ("", "document: None is nothing; it wants a table"),
    ("limit: 2026-01-01", "limit: .* it wants a whole number"),
    ("name: !!python/object/apply:os.getcwd []", "is no YAML: "),
]


@pytest.mark.parametrize(("text", "said"), YAML_ERRORS)
@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_yaml_is_as_strict(text: str, said: str, ending: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text, f"own.{ending}")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.json'"):
        read_study(written(tmp_path, "{}", "own.json"))
    with pytest.raises(InputError, match=r"none.toml' does not exist"):
        read_study(tmp_path / "none.toml")
    with pytest.raises(InputError, match="has no functions"):
        read_study(written(tmp_path, ARM), "other")
    (tmp_path / "own.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(InputError, match="is no UTF-8 text"):
        read_study(tmp_path / "own.toml")


# a study in Python

PYTHON = (
    "from ablations.study.named import demo\n\ndef study():\n    return demo()\n\n"
    "def other():\n    return 3\n"
)


def test_a_function_of_a_file_gives_the_study(tmp_path: Path) -> None:
    assert read(tmp_path, PYTHON, "own.py") == STUDIES["demo"]()


def test_a_file_may_have_dataclasses_and_shadows_no_module(tmp_path: Path) -> None:
    imports = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text = imports + "@dataclass\nclass Size:\n    n: int\n\n"
    before = sys.modules["json"]
    assert read(tmp_path, text + PYTHON, "json.py") == STUDIES["demo"]()
    assert sys.modules["json"] is before


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("other", r"other\(\) returned 3, not an ablations.study.Study"),
        ("studdy", "no function 'studdy'; it has demo, study, other"),
        ("number", "'number' is no function but 3"),
        ("wants", r"wants\(size\) is called without arguments"),
    ],
)
def test_what_is_no_study_is_named(function: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, PYTHON + "number = 3\n\ndef wants(size, more=1):\n    return size\n", "own.py")
    with pytest.raises(InputError, match=said):
        read_study(path, function)


def test_an_exception_of_the_users_code_keeps_its_traceback(tmp_path: Path) -> None:
    path = written(tmp_path, "def study():\n    return 1 / 0  # here\n", "own.py")
    with pytest.raises(ZeroDivisionError) as found:
        read_study(path)
    assert "return 1 / 0  # here" in "".join(traceback.format_exception(found.value))


# by name


def test_a_study_is_found_by_name_or_file(tmp_path: Path) -> None:
    path = written(tmp_path, PYTHON.replace("other", "third").replace("return 3", "return demo()"), "own.py")
    assert find_study("demo") == find_study(str(path)) == find_study(f"{path}:third") == STUDIES["demo"]()
    assert find_study(str(EXAMPLES / "weights.toml")).name == "weights"
    with pytest.raises(InputError, match=r"'dmo'. Did you mean 'demo'\?"):
        find_study("dmo")
    with pytest.raises(InputError, match=r"own.py: it has no function 'fourth'"):
        find_study(f"{path}:fourth")


@pytest.mark.parametrize(
    ("text", "says"), [("[]", "a JSON object was expected"), ('{"arms": []}', "does not name arms and seeds")]
)
def test_a_file_that_is_no_study_ends_with_a_message(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.json").write_text(text)
    assert run_command(runs.status, [str(tmp_path)]) == 2
    assert says in capsys.readouterr().err
