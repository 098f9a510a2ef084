"""What counts where not every seed has everything: the largest complete crossing, by hand and by search."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.effects import MINUS_NATIVE, effects, of, over_datasets_of
from analysis.leading import Headline
from analysis.quantities import query_values
from analysis.stats.crossing import complete_crossing
from analysis.stats.evidence import arms_in, average_arms, gather
from crossgap.metrics.intervals import Bootstrap

FEW = Bootstrap(resamples=50)
HOLED = "0B 0C 1A 1C 2A 2B 2C"


def pairs(cells: str) -> pd.DataFrame:
    return pd.DataFrame([(int(cell[0]), cell[1]) for cell in cells.split()], columns=["seed", "dataset"])


def names(frame: pd.DataFrame) -> set[str]:
    return {f"{seed}{dataset}" for seed, dataset in frame[["seed", "dataset"]].itertuples(index=False)}


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        ("0a 0b 1a 1b", "0a 0b 1a 1b"),
        ("0a 0b 0c 1a 1b", "0a 0b 1a 1b"),
        ("0a 0b 0c 1a", "0a 0b 0c"),
        ("0a 0b 0c 1a 1b 1d 2a 2b", "0a 0b 1a 1b 2a 2b"),
        ("0a 0b 0c 0d 1a 1b", "0a 0b 0c 0d"),  # equally many: more datasets
        (HOLED, "0B 0C 2B 2C"),  # neither a whole seed nor a whole dataset: two of each
        ("0a 1b", ""),
        ("", ""),
    ],
)
def test_the_largest_complete_crossing_is_kept(cells: str, kept: str) -> None:
    for given in (pairs(cells), pairs(cells)[::-1]):
        assert names(complete_crossing(given, "seed", "dataset", least=2)) == set(kept.split())


def test_one_dataset_may_be_the_largest_crossing() -> None:
    cells = pd.DataFrame({"seed": [0, 0, 1, 2], "dataset": ["a", "b", "a", "a"]})
    assert complete_crossing(cells, "seed", "dataset").index.tolist() == [0, 2, 3]
    assert complete_crossing(cells, "seed", "dataset", least=2).index.tolist() == [0, 1]


def test_a_crossing_of_apart_pairs_is_one_of_them() -> None:
    assert names(complete_crossing(pairs("0a 1b"), "seed", "dataset")) == {"1b"}


def test_no_crossing_has_more_pairs() -> None:
    generator = np.random.default_rng(0)
    for _ in range(60):
        there = generator.random((4, 4)) < 0.6
        cells = " ".join(f"{seed}{'abcd'[place]}" for seed, place in zip(*np.nonzero(there), strict=True))
        kept = complete_crossing(pairs(cells), "seed", "dataset")
        rows, columns = kept["seed"].unique(), ["abcd".index(name) for name in kept["dataset"].unique()]
        assert len(kept) == len(rows) * len(columns)
        subsets = [list(c) for n in range(1, 5) for c in itertools.combinations(range(4), n)]
        most = max(
            (len(a) * len(b) for a in subsets for b in subsets if there[np.ix_(a, b)].all()), default=0
        )
        assert len(kept) == most


def test_every_mean_counts_with_one_crossing() -> None:
    """The mean over seeds and datasets, over arms, and of routes over datasets: the same pairs count."""
    cells = pairs(HOLED)
    differences = cells.merge(
        pd.DataFrame({"query_id": list("pqr"), "query_class": list("xyz")}), how="cross"
    )
    differences["value"] = differences["seed"] + differences["dataset"].map({"A": 10.0, "B": 20.0, "C": 40.0})
    expected = differences.merge(pairs("0B 0C 2B 2C"))["value"].mean()

    evidence = gather(differences, bootstrap=FEW)
    assert evidence is not None
    assert (evidence.models.n, evidence.n_datasets) == (2, 2)
    assert evidence.value == pytest.approx(expected)

    arms = differences.rename(columns={"dataset": "arm"}).assign(dataset="d")
    assert arms_in(arms, ["A", "B", "C"]) == ["B", "C"]
    assert average_arms(arms, ["A", "B", "C"])["value"].mean() == pytest.approx(expected)

    about = differences.assign(
        arm="one", split="test", task="image-subgroup", metric="mAP", inversion_seed=float("nan")
    )
    queries = pd.concat([about.assign(route="oti"), about.assign(route="native", value=0.0)])
    wheres = [Headline("image", dataset, "test", "image-subgroup", "oti") for dataset in "ABC"]
    none = query_values(queries, wheres).iloc[:0]
    table = effects(none, queries, wheres, None, bootstrap=FEW)
    row = over_datasets_of(of(table, MINUS_NATIVE)).iloc[0]
    assert (row["n_datasets"], row["n_seeds"], row["n_left_out"]) == (2, 2, 3)
    assert row["estimate"] == pytest.approx(expected)


def test_a_crossing_of_arms_loses_as_little_as_it_can() -> None:
    cells = pd.DataFrame({"seed": [0, 1, 2, 0], "arm": ["a", "a", "a", "b"]})
    assert complete_crossing(cells, "seed", "arm")["arm"].tolist() == ["a", "a", "a"]
    assert arms_in(cells, ["b", "a"]) == ["a"]
    cells = pd.DataFrame({"seed": [0, 1, 2, 0, 1], "arm": ["a", "a", "a", "b", "b"]})
    assert sorted(set(complete_crossing(cells, "seed", "arm")["seed"])) == [0, 1]
    assert arms_in(cells, ["b", "a"]) == ["b", "a"]
