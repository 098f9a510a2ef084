"""Rules of the layout: imports point one way, nothing happens at import, nothing untrusted is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("crossgap", "pretrain", "ablations", "analysis")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAY_IMPORT = {
    "crossgap": {"crossgap"},
    "pretrain": {"crossgap", "pretrain"},
    "ablations": {"crossgap", "pretrain", "ablations"},
    "analysis": {"analysis", "crossgap"},
}
TORCH_FREE = {
    "crossgap.command", "crossgap.errors", "crossgap.files", "crossgap.inversion.words", "crossgap.lazy",
    "crossgap.metrics.intervals", "crossgap.names", "crossgap.probes.shots", "crossgap.progress",
    "crossgap.reading.query_table", "crossgap.reading.quoting", "crossgap.reading.route_values",
    "crossgap.reading.setting_columns", "crossgap.reading.support", "crossgap.reading.treatment",
    "crossgap.records", "crossgap.vocabulary",
}  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {module for module in imports(path) if module.split(".")[0] in PACKAGES}
    assert {module.split(".")[0] for module in ours} <= MAY_IMPORT[package]
    if package == "analysis":
        assert {module for module in ours if module.startswith("crossgap")} <= TORCH_FREE


def test_analysis_and_what_it_imports_load_no_torch() -> None:
    modules = [
        path.relative_to(ROOT).with_suffix("") for path in FILES if path.parts[len(ROOT.parts)] == "analysis"
    ]
    names = ", ".join(str(path).replace("/", ".").removesuffix(".__init__") for path in modules)
    code = f"import sys, {names}, crossgap.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_report_says_its_options_without_what_computes_and_draws() -> None:
    heavy = {"pandas", "scipy", "matplotlib", "seaborn", "statsmodels", "jinja2"}
    code = f"import sys, analysis.report; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# importing it is its work: what it loads, every trial finds when it is forked
WARM = ROOT / "ablations/running/warm.py"


@pytest.mark.parametrize("path", [path for path in FILES if path != WARM], ids=name_of)
def test_nothing_happens_at_import(path: Path) -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for node in ast.parse(path.read_text()).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_main = isinstance(node, ast.If) and "__name__" in ast.dump(node.test)
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        assert isinstance(node, allowed) or is_docstring or is_main or is_typing, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_untrusted_runs(path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path)}
    assert not {"dill", "joblib", "marshal", "shelve"} & found
    tree = ast.parse(path.read_text())
    if "pickle" in found:  # the walled reader of a published ground truth; SLIP's needs no pickle of ours
        assert name_of(path) == "crossgap/datasets/known/revisited.py"
        used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        of_pickle = {name for name in used if name.startswith("pickle.")}
        assert of_pickle == {"pickle.Unpickler", "pickle.UnpicklingError"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            for keyword, forbidden in (("weights_only", False), ("allow_pickle", True), ("shell", True)):
                value = named.get(keyword)
                assert not (isinstance(value, ast.Constant) and value.value is forbidden), (
                    f"line {node.lineno}"
                )
            is_torch_load = ast.unparse(node.func) == "torch.load"
            assert not is_torch_load or "weights_only" in named, f"line {node.lineno}"


def test_no_file_is_a_drawer() -> None:
    assert not [name_of(path) for path in FILES if path.stem in ("utils", "helpers", "common", "misc")]
