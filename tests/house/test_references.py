"""Every formula has a row in REFERENCES.md, and every metric says what its number means."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from crossgap.evaluation.routes import ROUTES
from pretrain.recipes import RECIPES
from tests import released_terms

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCES = (ROOT / "REFERENCES.md").read_text()
METRICS = (
    "metrics/gap",
    "metrics/separability",
    "metrics/misalignment",
    "metrics/neighbourhood",
    "metrics/kernel_alignment",
    "metrics/spectrum",
    "metrics/recoverability",
    "metrics/clustering",
    "metrics/retrieval",
    "metrics/counting",
    "metrics/streaming",
    "metrics/ndcg",
    "metrics/landmark",
    "probes/class_mean",
    "probes/linear_probe",
    "metrics/factors",
)
MAPS = tuple(f"posthoc/{path.stem}" for path in sorted((ROOT / "crossgap/posthoc").glob("[a-z]*.py")))
NO_FORMULA = {
    "rank_candidates",
    "top_candidates",
    "band_candidates",
    "isoclip_preset",
    "published_bands",
    "check_ks",
    "metric_names",
    "harmonic_numbers",
    "unit_copy",
    "principal_basis",
    "check_fit",
    "check_widths",
    "check_items",
    "neighbour_lists",
    "draw_shots",
    "factor_metrics",
    "unmeasured",
    "similarity_moments",
}


def test_every_term_has_a_row() -> None:
    files = sorted((ROOT / "pretrain/terms").glob("*.py"))
    missing = [path.name for path in files if path.name not in REFERENCES]
    assert missing == ["__init__.py", "term.py"], "name these files in REFERENCES.md, each with its equation"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_explained(name: str) -> None:
    recipe = RECIPES[name]
    weights = ", ".join(f"`{term}` {weight:g}" for term, weight in recipe().objective.weights.items())
    row = f"| `{name}` | {recipe.description} | {weights} | {recipe.source} |\n"
    assert row in (ROOT / "docs/objectives.md").read_text(), f"docs/objectives.md needs the row: {row}"


def functions(module: str) -> list[tuple[str, str, str]]:
    """List (module, name, docstring) of a module's public functions."""
    tree = ast.parse((ROOT / f"crossgap/{module}.py").read_text())
    return [
        (module, node.name, ast.get_docstring(node) or "")
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


FORMULAS = [
    function
    for module in (*METRICS, *MAPS, "metrics/jackknife")
    for function in functions(module)
    if function[1] not in NO_FORMULA
]


@pytest.mark.parametrize("module, name, text", FORMULAS, ids=lambda value: str(value)[:40])
def test_each_formula_has_its_row(module: str, name: str, text: str) -> None:
    rows = [line for line in REFERENCES.splitlines() if line.startswith("|") and f"`{name}`" in line]
    assert any(f"`crossgap/{module}.py`" in row for row in rows), (
        f"{module}.{name} has no row in REFERENCES.md"
    )


@pytest.mark.parametrize(
    "module, name, text",
    [function for function in FORMULAS if function[0] in METRICS and function[1] not in NO_FORMULA],
    ids=lambda value: str(value)[:40],
)
def test_each_metric_states_unit_range_direction_and_shape(module: str, name: str, text: str) -> None:
    plain = " ".join(text.split())
    assert "Shape: " in plain
    assert "Unit: " in plain or "Unit, range and direction: " in plain
    assert re.search(r"Range: \S.*?; \S", plain) or "Unit, range and direction: " in plain


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_has_its_row(route: str) -> None:
    rows = [line for line in REFERENCES.splitlines() if line.startswith("| route")]
    assert any(f"`{route}`" in row.split(" | ")[0] for row in rows), (
        f"route {route} has no row in REFERENCES.md"
    )


ROWS = [line for line in REFERENCES.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:].split(" | ")[0][:40])
def test_each_row_says_what_it_was_checked_against(row: str) -> None:
    checked = row.split(" | ")[3]
    assert re.match(r"(released code|paper|neither)\b", checked), (
        f"{row[:60]}...: the column 'checked against' says {checked!r}; begin it with 'released code', "
        "'paper' (followed, not checked against code) or 'neither' (this project's own)"
    )


@pytest.mark.parametrize("name", [name for name in vars(released_terms) if name.startswith("released_")])
def test_a_twin_of_released_code_cites_it(name: str) -> None:
    """A twin of released code says which: repository, file and function."""
    told = vars(released_terms)[name].__doc__
    assert re.search(r"[\w-]+/[\w-]+, ``[\w/]+\.py``, ``[\w.]+``", " ".join(told.split())), told


def test_files_that_are_named_exist_and_rows_are_whole() -> None:
    for row in ROWS:
        assert row.count(" | ") == 4, row
        for file in re.findall(r"`([a-z_/]+\.py)`", row.rsplit(" | ", 1)[1]):
            assert (ROOT / file).is_file(), file
