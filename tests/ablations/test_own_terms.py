"""Terms that a study's file registers are known in every process that trains with them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.running.stages import training_key
from ablations.study.files import read_study
from ablations.study.named import demo
from ablations.study.own_terms import NO_OWN_TERMS, OwnTerms, TermSource, own_terms, run_file
from crossgap.errors import InputError
from crossgap.files import read_lines
from crossgap.settings.strict import strict
from pretrain.recipes import RECIPES
from pretrain.terms import OF_THE_PACKAGE, TERMS, Term
from pretrain.terms.infonce import info_nce
from tests import commands

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "studies" / "own_term.py"
NATIVE = ("--set", 'evaluation.routes=["native"]')  # what is under test is the training
AT_THE_TOP = 'TERMS["{name}"] = Term(function=pull, inputs=("image_BD", "text_BD"), acts_on="across")\n'
FILE = """
from dataclasses import replace
from ablations.study.named import demo
from pretrain.configure import configure
from pretrain.terms import TERMS, Term

def pull(image_BD, text_BD):
    return 1 - (image_BD * text_BD).sum(dim=1).mean()

{top}
def study():
{inside}    made = demo()
    arm = made.arm("baseline")
    train = configure(arm.train, {{"objective.weights.{name}": 0.5}})
    return replace(made, name="own", arms=(replace(arm, train=train),), seeds=(0,), processes={processes})
"""


@pytest.fixture(autouse=True)
def terms() -> Iterator[None]:
    before = dict(TERMS)
    yield
    TERMS.clear()
    TERMS.update(before)


def written(folder: Path, *, top: str = "", inside: str = "", processes: int = 1) -> Path:
    path = folder / "own.py"
    path.write_text(FILE.format(name="pull", top=top, inside=inside, processes=processes))
    return path


def sweep(study: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return commands.run("ablations.sweep", "--study", str(study), "--smoke", "--out", str(out), *more)


def test_the_example_trains_with_its_term_in_processes_of_their_own(tmp_path: Path) -> None:
    result = sweep(EXAMPLE, tmp_path / "out", "--seeds", "1", *NATIVE)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / "out" / "trials" / "pair-cosine-s0"
    assert all(0 < line["raw/pair_cosine"] < 2 for line in read_lines(folder / "metrics.jsonl"))
    assert json.loads((folder / "config.json").read_text())["acts_on"]["pair_cosine"] == "across"


def test_a_term_that_the_function_registers_is_known_to_torchrun(tmp_path: Path) -> None:
    inside = f"    {AT_THE_TOP.format(name='pull')}"
    result = sweep(written(tmp_path, inside=inside, processes=2), tmp_path / "out", *NATIVE)
    assert result.returncode == 0, result.stdout + result.stderr
    (line, *_) = read_lines(tmp_path / "out" / "trials" / "baseline-s0" / "metrics.jsonl")
    assert line["raw/pull"] > 0


def test_what_no_file_registers_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(
        InputError, match=r"term 'pull' .* running .*own\.py does not register it.*TERMS\['pull'\]"
    ):
        OwnTerms(names=("pull",), sources=(TermSource(file=path, function="study"),)).learn()
    with pytest.raises(InputError, match="no file is known"):
        OwnTerms(names=("pull",)).learn()


def test_a_files_terms_are_its_own_and_come_from_it(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, top=AT_THE_TOP.format(name="pull")))
    assert study.source == TermSource(file=(tmp_path / "own.py").resolve(), function="study")
    found = own_terms(study.arms[0].train.objective.weights, study.source)
    assert found == OwnTerms(names=("pull",), sources=(study.source,))
    assert strict(json.loads(json.dumps(found.as_json())), OwnTerms, "") == found
    assert own_terms(demo().arms[0].train.objective.weights, study.source) == NO_OWN_TERMS
    del TERMS["pull"]
    found.learn()
    assert TERMS["pull"].function is not None


def test_a_function_of_another_module_is_found_there() -> None:
    TERMS["mine"] = Term(
        function=info_nce, inputs=("image_BD", "text_BD"), acts_on="across", temperature="host"
    )
    (source,) = own_terms(["clip", "mine"], None).sources
    assert (source.module, source.file.name) == ("pretrain.terms.infonce", "infonce.py")


def test_a_term_of_the_package_that_a_file_replaces_is_learnt_too(tmp_path: Path) -> None:
    path = tmp_path / "replaced.py"
    path.write_text(
        "from dataclasses import replace\nfrom pretrain.terms import TERMS\n"
        'TERMS["mmd"] = replace(TERMS["mmd"], weight=0.25)\n'
    )
    run_file(path)
    found = own_terms(["mmd"], TermSource(file=path))
    assert found.names == ("mmd",)
    TERMS["mmd"] = OF_THE_PACKAGE["mmd"]
    found.learn()
    assert TERMS["mmd"].weight == 0.25


def test_a_model_trained_with_another_version_of_a_term_is_not_taken(tmp_path: Path) -> None:
    path = written(tmp_path, top=AT_THE_TOP.format(name="pull"))
    config = replace(RECIPES["baseline"](), threads=1)
    found = OwnTerms(names=("pull",), sources=(TermSource(file=path),))
    before = training_key(config, tmp_path, found)
    assert before != training_key(config, tmp_path)
    assert before == training_key(config, tmp_path, found)
    path.write_text(path.read_text().replace("1 - ", "2 - "))
    assert before != training_key(config, tmp_path, found)
