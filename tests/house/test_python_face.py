"""What a notebook calls: every line of docs/python.md runs, and the functions are those of the commands."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import crossgap
from crossgap.errors import InputError
from crossgap.metrics.gap import centroid_distance
from crossgap.metrics.relevance import relevance_from_labels
from crossgap.metrics.retrieval import retrieval_metrics
from crossgap.metrics.similarity import cosine_scores
from pretrain.config import smoke
from pretrain.recipes import RECIPES
from pretrain.run import train
from tests.synthetic_study import SyntheticArm, SyntheticStudy, write_study

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
LABELS = np.array(["a", "b", "c", "d"] * 15)


def features(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(60, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with what the page speaks of: a run, photos, features and a study."""
    folder = tmp_path_factory.mktemp("notebook")
    config = replace(smoke(RECIPES["baseline"]()), threads=1, device="cpu")
    train(config, folder / "runs" / "mine", progress=False)
    np.savez(folder / "features.npz", image=features(0), text=features(1), labels=LABELS)
    (folder / "photos").mkdir()
    for number in range(22):
        picture = np.random.default_rng(number).integers(0, 255, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / "photos" / f"{number:02d}.png")
    arms = tuple(
        SyntheticArm(name=f"w{number}", label="", weights={"image_ntxent": weight})
        for number, weight in enumerate((0.0, 0.5, 1.0))
    )
    write_study(folder / "runs" / "weights", SyntheticStudy(arms=arms, pictures=False))
    return folder


def test_every_line_of_the_page_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    mpl.use("Agg")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    space: dict[str, Any] = {}
    exec(compile(code, "docs/python.md", "exec"), space)  # noqa: S102 - a page of ours
    assert len(space["photos"]) == 20
    assert space["inverted"].features.shape[0] == 20
    assert {"oti", "class_pca", "ridge"} <= set(space["rows"]["route"]) | set(
        space["measured"].frame["route"]
    )
    assert (place / "curve.png").exists()
    assert (place / "runs" / "mine-emoji" / "rows.jsonl").exists()


def test_retrieval_is_that_of_the_metrics() -> None:
    image = features(0)
    found = crossgap.retrieval_metrics(image, query_labels=LABELS)
    tensor = F.normalize(torch.from_numpy(image), dim=1)
    ids = [str(number) for number in range(60)]
    judged = relevance_from_labels(ids, ids, list(LABELS), list(LABELS))
    plain = retrieval_metrics(cosine_scores(tensor, tensor), judged)
    for name, values in plain.items():
        np.testing.assert_allclose(found[name], values.numpy(), atol=1e-6)
    named = crossgap.retrieval_metrics(pd.DataFrame(image, index=ids), query_labels=LABELS)
    assert list(named.index) == ids
    with pytest.raises(InputError, match="gallery_labels"):
        crossgap.retrieval_metrics(image, features(1), query_labels=LABELS)


def test_the_gap_is_that_of_the_metric() -> None:
    image, text = features(0), features(1)
    table = crossgap.modality_gap(image, text)
    sides = (F.normalize(torch.from_numpy(side), dim=1) for side in (image, text))
    assert table.loc["centroid_distance", "value"] == pytest.approx(float(centroid_distance(*sides)))
    row = table.loc["centroid_distance"]
    assert row["low"] < row["value"] < row["high"]
    assert "v_measure" in crossgap.modality_gap(image, text, labels=LABELS).index


def test_texts_and_images_are_encoded_as_they_come(place: Path) -> None:
    encoder = crossgap.load_encoder(str(place / "runs" / "mine"), device="cpu")
    texts = ["a cat", "a dog"]
    assert torch.equal(encoder.encode_text(texts), encoder.encode_text(encoder.tokenize(texts)))
    path = place / "photos" / "00.png"
    with Image.open(path) as opened:
        pixels = encoder.preprocess([opened.convert("RGB")])
        for given in (path, str(path), opened):
            assert torch.equal(encoder.encode_image([given]), encoder.encode_image(pixels))
    with pytest.raises(InputError, match="is no list"):
        encoder.encode_text("a cat")
    with pytest.raises(InputError, match="cannot be read as an image"):
        encoder.encode_image(["nowhere.png"])


def test_an_unknown_setting_of_an_inversion_is_named(place: Path) -> None:
    encoder = crossgap.load_encoder(str(place / "runs" / "mine"), device="cpu")
    with pytest.raises(InputError, match=r"unknown setting of an inversion 'step'. Did you mean 'steps'"):
        crossgap.invert(encoder, ["a"], into="image", step=3)


def test_importing_the_package_imports_no_torch() -> None:
    code = (
        "import sys, crossgap; assert 'torch' not in sys.modules; assert 'evaluate' in dir(crossgap); "
        "import crossgap.evaluate; assert callable(crossgap.evaluate) and crossgap.evaluate.main"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = crossgap.nothing
