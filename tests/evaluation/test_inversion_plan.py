"""Plans with axes: every setting once, in words that read back, with the rows of its own plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from crossgap.embeddings import embed
from crossgap.errors import InputError
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.run import evaluate
from crossgap.inversion.config import InversionConfig
from crossgap.inversion.loop import invert
from crossgap.inversion.words import AXES, read_axes, write_axes
from crossgap.metrics.relevance import relevance_of
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from crossgap.posthoc import shuffled_targets
from crossgap.reading.quoting import quoted, quoted_queries
from tests.conftest import tiny_encoder
from tests.evaluation.test_evaluate import PROVENANCE, dataset

CONFIG = InversionConfig(steps=6, batch_size=4)
PLAIN: dict[str, Any] = {"config": CONFIG, "token_counts": (1, 2), "snapshots": (0, 2, 6)}
WORDED = 'method lbfgs, template "a, photo of {}", learning rate 0.05, weight decay 0, initial scale 1e-05'
PLAN = InversionPlan(**PLAIN, learning_rates=(0.02, 0.2), weight_decays=(0.0, 0.5), init_stds=(0.02, 0.3))


def test_a_plan_without_axes_is_its_token_counts() -> None:
    plan = InversionPlan(**PLAIN)
    assert plan.configs == (CONFIG, replace(CONFIG, num_tokens=2))
    assert plan.batches == (plan.configs,)
    assert {plan.setting(config) for config in plan.configs} == {""}


def test_a_plan_lists_every_combination_and_says_what_varies() -> None:
    plan = InversionPlan(**PLAIN, learning_rates=(0.02, 0.05), weight_decays=(0.1,), init_stds=(0.2, 0.02))
    assert [(c.learning_rate, c.init_std, c.num_tokens) for c in plan.configs] == [
        (0.02, 0.2, 1), (0.02, 0.2, 2), (0.02, 0.02, 1), (0.02, 0.02, 2),
        (0.05, 0.2, 1), (0.05, 0.2, 2), (0.05, 0.02, 1), (0.05, 0.02, 2),
    ]  # fmt: skip
    assert {config.weight_decay for config in plan.configs} == {0.1}
    assert plan.batches == (plan.configs,)
    assert plan.setting(plan.configs[-1]) == "learning rate 0.05, initial scale 0.02"


def test_templates_and_methods_have_batches_of_their_own_and_lbfgs_no_weight_decay() -> None:
    plan = InversionPlan(
        **PLAIN, methods=("adamw", "lbfgs"), templates=("a {}", "the {}"), weight_decays=(0.1, 0.2)
    )
    sizes = [(batch[0].method, batch[0].template, len(batch)) for batch in plan.batches]
    assert sizes == [
        ("adamw", "a {}", 4),
        ("adamw", "the {}", 4),
        ("lbfgs", "a {}", 2),
        ("lbfgs", "the {}", 2),
    ]
    assert {config.weight_decay for config in plan.configs if config.method == "lbfgs"} == {0}
    assert plan.setting(plan.configs[-1]) == 'method lbfgs, template "the {}", weight decay 0'
    assert len(set(plan.configs)) == len(plan.configs) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_counts": ()}, "at least one token count"),
        ({"snapshots": (0,)}, "one snapshot step above 0"),
        ({"snapshots": (7,)}, r"snapshot steps \[7\] lie outside 0..6"),
        ({"snapshots": (-1, 2)}, r"snapshot steps \[-1\] lie outside"),
        ({"snapshots": (2, 2)}, "snapshots repeat themselves"),
        ({"token_counts": (1, 1)}, "token counts repeat themselves"),
        ({"token_counts": (0,)}, "num_tokens must be at least 1"),
        ({"learning_rates": (0.1, 0.1)}, "values of learning rate repeat themselves"),
        ({"learning_rates": (-0.1,)}, "learning_rate must be finite and not negative"),
        ({"weight_decays": (0.1, float("inf"))}, "weight_decay must be finite"),
        ({"init_stds": (float("nan"),)}, "init_std must be finite"),
        ({"methods": ("adam",)}, "adam"),
        ({"templates": ("a photo",)}, "exactly once"),
        ({"templates": ("{} {}",)}, "exactly once"),
        ({"methods": ("lbfgs",), "weight_decays": (0.1,)}, "lbfgs has no weight decay"),
    ],
)
def test_what_no_inversion_takes_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InversionPlan(**{**PLAIN, **changes})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"learning_rate": 0.05},
        {"learning_rate": 0.1 + 0.2, "init_std": 1e-7},
        {"method": "lbfgs", "template": 'say "{}", please, learning rate 3', "weight_decay": 0.0},
        {"template": "ein Bild: {} é"},
    ],
)
def test_the_words_of_a_setting_read_back(values: dict[str, Any]) -> None:
    words = write_axes(values)
    assert read_axes(words) == values
    assert write_axes(dict(reversed(values.items()))) == words


def test_the_words_of_a_setting() -> None:
    assert write_axes({"init_std": 0.2, "learning_rate": 0.05}) == "learning rate 0.05, initial scale 0.2"
    values = read_axes(WORDED)
    assert list(values) == list(AXES)
    assert values["template"] == "a, photo of {}"
    assert write_axes(values) == WORDED


@pytest.mark.parametrize(
    "text",
    [
        "rank 64",
        "learning rate",
        "learning rate fast",
        "learning rate 0.050",
        "learning rate 0.05,",
        "initial scale 1, learning rate 2",
        "learning rate 1, learning rate 2",
        'template "a {}',
        "learning rate nan",
    ],
)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_axes(text)


def test_unknown_axes_and_numbers_without_end_are_not_written() -> None:
    with pytest.raises(InputError, match="'steps' is no axis"):
        write_axes({"steps": 3})
    with pytest.raises(InputError, match="finite"):
        write_axes({"init_std": float("inf")})


def measure(plan: InversionPlan, *routes: str) -> Evaluation:
    config = EvaluationConfig(
        routes=routes or ("oti", "untrained_tokens"), plans={"text": plan}, num_neighbours=2
    )
    encoder = tiny_encoder(dtype=torch.float64)
    return evaluate(encoder, dataset("test"), dataset("val"), config=config, provenance=PROVENANCE)


def frame(result: Evaluation) -> pd.DataFrame:
    return pd.DataFrame([vars(row) for row in result.rows])


@pytest.fixture(scope="module")
def grid() -> Evaluation:
    return measure(PLAN, "oti", "untrained_tokens", "oti_both", "shuffled_targets")


POINT = ["split", "task", "route", "metric", "steps", "num_tokens"]


@pytest.mark.slow
def test_the_rows_of_a_setting_are_those_of_its_own_plan(grid: Evaluation) -> None:
    rows, queries = frame(grid), grid.tables["per_query"]
    for config in PLAN.configs:
        words, tokens = PLAN.setting(config), config.num_tokens
        own = measure(InversionPlan(config=config, token_counts=(tokens,), snapshots=PLAN.snapshots))
        assert {row.setting for row in own.rows} == {""}

        def curve(table: pd.DataFrame, words: str, tokens: int = tokens) -> pd.DataFrame:
            of_curve = (table["selection"] == "curve") & (table["num_tokens"] == tokens)
            return table[of_curve & (table["setting"] == words)].reset_index(drop=True)

        ours, theirs = curve(rows, words), curve(frame(own), "")
        assert len(theirs) == 75
        assert ours[POINT].equals(theirs[POINT])
        assert ours["protocol"].equals(theirs["protocol"])
        np.testing.assert_allclose(ours["value"], theirs["value"], rtol=0, atol=1e-9)
        ours, theirs = curve(queries, words), curve(own.tables["per_query"], "")
        assert ours[[*POINT, "query_id"]].equals(theirs[[*POINT, "query_id"]])
        np.testing.assert_allclose(ours["value"], theirs["value"], rtol=0, atol=1e-9)


def test_the_rows_of_a_template_and_a_method_are_those_of_their_own_plan() -> None:
    start = replace(CONFIG, weight_decay=0.0)
    both: dict[str, Any] = {"token_counts": (2,), "snapshots": (2, 6)}
    plan = InversionPlan(
        config=start, **both, templates=("a photo of {}", "the {}"), methods=("adamw", "lbfgs")
    )
    rows = frame(measure(plan))
    assert len(plan.batches) == 4
    losses = {}
    for config in plan.configs:
        own = frame(measure(InversionPlan(config=config, **both)))
        mine = rows[(rows["selection"] == "curve") & (rows["setting"] == plan.setting(config))]
        theirs = own[(own["steps"].notna()) & (own["selection"] == "curve")]
        assert mine["value"].tolist() == theirs["value"].tolist()
        assert mine["protocol"].tolist() == theirs["protocol"].tolist()
        losses[config] = mine.loc[mine["metric"] == "loss", "value"].iloc[-1]
    assert len(set(losses.values())) == 4


def test_the_setting_reported_is_the_best_of_all_on_val(grid: Evaluation) -> None:
    rows = frame(grid)
    rows = rows[(rows["metric"] == "mAP") & (rows["task"] == "image-subgroup")]
    on_val = rows[(rows["split"] == "val") & (rows["route"] == "oti")]
    assert len(on_val) == 8 * 2 * 2
    best = on_val.loc[on_val["value"].idxmax()]
    assert best["value"] > on_val.loc[on_val["setting"] == PLAN.setting(PLAN.configs[0]), "value"].max()
    keys = ["steps", "num_tokens", "setting"]
    reported = rows[(rows["split"] == "test") & (rows["selection"] == "val")]
    assert set(reported["route"]) == {"oti", "oti_both", "shuffled_targets"}
    assert all(row[keys].tolist() == best[keys].tolist() for _, row in reported.iterrows())
    curve = rows[(rows["split"] == "test") & (rows["route"] == "oti") & (rows["selection"] == "curve")]
    same = curve[(curve[keys] == best[keys]).all(axis=1)]["value"].item()
    assert reported.loc[reported["route"] == "oti", "value"].item() == same


def test_both_sides_and_shuffled_targets_are_inverted_under_the_chosen_setting(grid: Evaluation) -> None:
    encoder, task = tiny_encoder(dtype=torch.float64), dataset("test").tasks[0]
    chosen = next(row for row in grid.rows if row.selection == "val" and row.route == "oti")
    values = read_axes(chosen.setting)
    config = replace(CONFIG, steps=chosen.steps, num_tokens=chosen.num_tokens, **values)  # type: ignore[arg-type]
    assert config.learning_rate != CONFIG.learning_rate or config.weight_decay != CONFIG.weight_decay
    query_QD, gallery_GD = (embed(encoder, side).values for side in (task.query, task.gallery))

    def inverted(targets_ND: torch.Tensor, ids: tuple[str, ...]) -> torch.Tensor:
        return invert(encoder, targets_ND, into="text", config=config, item_ids=ids).features

    moved_QD = query_QD[shuffled_targets(task.query.ids, seed=0)]
    sides = {
        "oti_both": (inverted(query_QD, task.query.ids), inverted(gallery_GD, task.gallery.ids)),
        "shuffled_targets": (inverted(moved_QD, task.query.ids), gallery_GD),
    }
    for route, (first_QD, second_GD) in sides.items():
        expected = retrieval_metrics(cosine_scores(first_QD, second_GD), relevance_of(task))["mAP"].nanmean()
        (row,) = [
            row
            for row in grid.rows
            if (row.route, row.task, row.metric) == (route, task.name, "mAP") and row.split == "test"
        ]
        assert row.value == pytest.approx(float(expected), abs=1e-9), route


def test_without_val_the_first_setting_is_reported() -> None:
    plan = InversionPlan(**PLAIN, learning_rates=(0.2, 0.02))
    config = EvaluationConfig(routes=("oti",), plans={"text": plan})
    result = evaluate(tiny_encoder(), dataset("test"), None, config=config, provenance=PROVENANCE)
    reported = [row for row in result.rows if row.selection == "preset" and row.route == "oti"]
    assert {(row.num_tokens, row.steps, row.setting) for row in reported} == {(1, 6, "learning rate 0.2")}


def test_per_query_values_of_two_settings_are_never_mixed(grid: Evaluation) -> None:
    rows = frame(grid).astype({"steps": "Float64", "num_tokens": "Float64", "inversion_seed": "Float64"})
    queries = grid.tables["per_query"].astype(
        {"steps": "Float64", "num_tokens": "Float64", "inversion_seed": "Float64"}
    )
    keys = ["split", "task", "route", "steps", "num_tokens", "setting", "selection", "metric"]
    means = queries.groupby(keys, dropna=False)["value"].mean().rename("mean").reset_index()
    joined = rows[rows["metric"].isin(means["metric"])].merge(means, on=keys)
    assert len(joined) == len(means)
    np.testing.assert_allclose(joined["value"], joined["mean"], atol=1e-12)

    found = quoted(rows)
    behind = quoted_queries(queries, found)
    mine = found[(found["metric"] == "mAP") & found["route"].isin(["oti", "untrained_tokens"])]
    assert set(mine["setting"]) == {next(row.setting for row in grid.rows if row.selection == "val")}
    for _, row in mine.iterrows():
        here = behind[(behind["task"] == row["task"]) & (behind["route"] == row["route"])]
        here = here[here["metric"] == "mAP"]
        assert here["value"].mean() == pytest.approx(row["value"], abs=1e-12)
        assert not here["query_id"].duplicated().any()
