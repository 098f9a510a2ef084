"""Studies compared: what is said to differ, paired and unpaired contrasts, and none where nothing differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.between import between, what_differs
from analysis.report import write_report
from analysis.results import Results, compute
from analysis.stats.unpaired import gather_unpaired, welch
from analysis.study import RecordedStudy, read_runs
from crossgap.metrics.intervals import Bootstrap
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

FEW = Bootstrap(resamples=50)
SEEDS = (0, 1, 2)
PLAIN = SyntheticStudy(
    arms=(
        SyntheticArm(name="baseline", label="Baseline", settings={"model": {"width": 96}}),
        SyntheticArm(name="narrow", label="Narrow", gap=0.2, weights={"centroid": 1.0},
                     settings={"model": {"width": 96}}),
    ),
    seeds=SEEDS,
    n_queries=80,
    n_classes=20,
    steps=(5, 25),
    num_tokens=(1,),
    pictures=False,
)  # fmt: skip


def changed(study: SyntheticStudy, **fields: object) -> SyntheticStudy:
    """Change every arm of a study, and draw its noise anew."""
    return replace(study, draw=1, arms=tuple(replace(arm, **fields) for arm in study.arms))  # type: ignore[arg-type]


def read(tmp_path: Path, first: SyntheticStudy, second: SyntheticStudy) -> RecordedStudy:
    """Write two studies as folders a and b, and read them together."""
    folders = [write_study(tmp_path / name, one) for name, one in (("a", first), ("b", second))]
    return read_runs(folders)


def joined(tmp_path: Path, first: SyntheticStudy, second: SyntheticStudy) -> Results:
    """Compute the numbers of two studies that share a report."""
    return compute(read(tmp_path, first, second), FEW)


def rows(results: Results) -> pd.DataFrame:
    """Select the comparison of the baselines, by quantity and modality."""
    table = results.between
    return table[table["arm"].str.startswith("baseline")].set_index(["quantity", "modality"])


def test_what_differs_is_said_first_by_what_it_belongs_to(tmp_path: Path) -> None:
    other = changed(PLAIN, temperature=0.02, settings={"model": {"width": 64}})
    study = read(
        tmp_path,
        PLAIN,
        replace(other, arms=(*other.arms[:1], replace(other.arms[1], name="new", label="New"))),
    )
    said = what_differs(study)
    assert said[0] == (
        "b differs from a in its model: model width 64 instead of 96; in its terms: temperature 0.02 instead "
        "of 0.01."
    )
    assert "Only a has Narrow." in said
    assert "Only b has New." in said
    assert "Equal seeds do not start alike in both, so means over seeds are compared, unpaired." in said


def test_a_known_difference_is_found_paired_by_seed_and_query(tmp_path: Path) -> None:
    other = changed(PLAIN, gap=0.5, gain=0.07, temperature=0.02)
    study = read(tmp_path, PLAIN, replace(other, noise=0.05))
    results = compute(study, FEW)
    table = rows(results)
    assert table["paired"].all()
    row = table.loc[("gain", "image")]
    assert row["estimate"] == pytest.approx(0.05, abs=0.01)
    assert row["queries_low"] > 0.03
    assert row["both_low"] > 0
    assert row["q"] < 0.05
    assert (row["n_seeds"], row["n_queries"]) == (3, 79)
    gap = table.loc[("centroid_distance", "")]
    assert gap["estimate"] == pytest.approx(-0.3)
    values = results.values
    gains = values[(values["quantity"] == "gain") & (values["task"] == "image-subgroup")]
    by_arm = gains.pivot(index="seed", columns="arm", values="value")
    plain = (by_arm["baseline (b)"] - by_arm["baseline (a)"]).mean()
    assert row["estimate"] == pytest.approx(plain)
    assert dict(row["per_seed"]) == pytest.approx((by_arm["baseline (b)"] - by_arm["baseline (a)"]).to_dict())


def test_other_initialisations_are_compared_unpaired(tmp_path: Path) -> None:
    study = read(tmp_path, PLAIN, changed(PLAIN, gain=0.07, settings={"model": {"width": 64}}))
    results = compute(study, FEW)
    table = rows(results)
    assert not table["paired"].any()
    row = table.loc[("gain", "image")]
    assert row["estimate"] == pytest.approx(0.05, abs=0.01)
    assert row["both_low"] > 0
    assert row["per_seed"] == ()
    values = results.values
    gaps = values[values["quantity"] == "centroid_distance"].set_index("arm")["value"]
    test = scipy.stats.ttest_ind(gaps["baseline (b)"], gaps["baseline (a)"], equal_var=False)
    gap = table.loc[("centroid_distance", "")]
    low, high = test.confidence_interval()
    assert (gap["seeds_low"], gap["seeds_high"]) == pytest.approx((low, high))


def test_other_seeds_are_compared_unpaired_and_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    same = changed(replace(PLAIN, seeds=(10, 11, 12)), temperature=0.02)
    table = rows(joined(tmp_path, PLAIN, same))
    assert not table["paired"].any()
    for name in (("gain", "image"), ("gain", "text"), ("native", "image"), ("native", "text")):
        row = table.loc[name]
        assert row["both_low"] < 0 < row["both_high"], name
        assert row["q"] > 0.05, name


@pytest.mark.slow
def test_equal_studies_of_equal_seeds_differ_in_nothing(tmp_path: Path) -> None:
    again = rows(joined(tmp_path / "again", PLAIN, changed(PLAIN, temperature=0.02)))
    assert again["paired"].all()
    assert not (again["q"] < 0.05).any()
    table = rows(joined(tmp_path, PLAIN, replace(changed(PLAIN, temperature=0.02), draw=0)))
    known = table.loc[[("gain", "image"), ("native", "text")]]
    assert (known["estimate"].abs() < 1e-12).all()  # the same numbers, whatever was called otherwise
    assert not (table["q"] < 0.05).any()


def test_one_seed_tells_no_studies_apart(tmp_path: Path) -> None:
    alone = replace(PLAIN, seeds=(0,))
    table = rows(joined(tmp_path, alone, changed(alone, gain=0.09, temperature=0.02)))
    assert table["p"].isna().all()
    assert table["q"].isna().all()


def test_one_study_and_runs_of_one_model_are_no_comparison(tmp_path: Path) -> None:
    study = read_runs([write_study(tmp_path / "a", PLAIN)])
    assert study.parts == ()
    assert what_differs(study) == []
    results = compute(study, FEW)
    assert between(study, results.values, results.queries, results.wheres, bootstrap=FEW).empty


@pytest.mark.slow
def test_the_report_says_what_differs_and_shows_one_table_and_one_figure(tmp_path: Path) -> None:
    study = read(tmp_path, PLAIN, changed(PLAIN, gain=0.07, temperature=0.02))
    html = write_report(study, tmp_path / "out", ("html", "csv"), FEW).read_text()
    header = html[html.index("<header>") : html.index("</header>")]
    assert "b differs from a in its terms: temperature 0.02 instead of 0.01." in header
    section = html[html.index('<section id="between"') :]
    section = section[: section.index("</section>")]
    assert section.count("<table") == 1
    assert section.count('<figure class="picture"') == 1
    assert (tmp_path / "out" / "figures" / "studies-compared.svg").exists()
    exported = pd.read_csv(tmp_path / "out" / "tables" / "between.csv")
    assert set(exported["study"]) == {"b"}
    assert exported["estimate"].tolist() == pytest.approx(compute(study, FEW).between["estimate"].tolist())


def side(rng: np.random.Generator, classes: np.ndarray, n_seeds: int, mean: float) -> pd.DataFrame:
    """Draw values of queries: a model's own level, what its class does, and noise."""
    ids = np.arange(len(classes)) // 4
    frames = [
        pd.DataFrame({
            "seed": seed, "query_id": np.arange(len(classes)), "query_class": ids,
            "value": mean + rng.normal(0, 0.01) + classes + rng.normal(0, 0.02, len(classes)),
        })
        for seed in range(n_seeds)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("shared", [True, False], ids=["same queries", "other queries"])
def test_unpaired_intervals_cover_and_claim_as_they_say(shared: bool) -> None:
    rng = np.random.default_rng(0)
    covered, claimed, times = 0, 0, 120
    for _ in range(times):
        effects = [np.repeat(rng.normal(0, 0.03, 30), 4) for _ in range(2)]
        change = np.repeat(rng.normal(0, 0.02, 30), 4)  # what the second side does to its classes
        first = side(rng, effects[0], 4, 0.30)
        second = side(rng, effects[0] + change if shared else effects[1], 3, 0.32)
        if not shared:
            second = second.assign(query_id=second["query_id"] + 1000)
        found = gather_unpaired(first, second, bootstrap=Bootstrap(resamples=20))
        assert found is not None
        covered += found.both_low <= 0.02 and found.both_high >= 0.02
        nothing = gather_unpaired(first, second.assign(value=second["value"] - 0.02), bootstrap=FEW)
        claimed += nothing is not None and nothing.p < 0.05
    assert covered / times >= 0.9
    assert claimed / times <= 0.1


def test_welch_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, 5), rng.normal(1, 3, 8)
    found = welch(first, second, level=0.9)
    test = scipy.stats.ttest_ind(second, first, equal_var=False)
    assert found.p_t == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.9)))
    assert found.n == 5
    alone = welch(first[:1], second)
    assert np.isnan([alone.low, alone.high, alone.p_t]).all()


def test_what_not_all_seeds_answered_is_left_out() -> None:
    rng = np.random.default_rng(2)
    first, second = (side(rng, rng.normal(0, 0.02, 40), 3, mean) for mean in (0.0, 1.0))
    second.loc[second["query_id"].eq(7) & second["seed"].eq(1), "value"] = np.nan
    found = gather_unpaired(first, second, bootstrap=FEW)
    assert found is not None
    assert found.n_queries == 39
    assert found.value == pytest.approx(1, abs=0.03)
    assert found.low < found.value < found.high
    assert gather_unpaired(first, second.iloc[:0], bootstrap=FEW) is None
