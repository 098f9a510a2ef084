"""A small trained model that several files of this folder read, and none changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain import train as training


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "run"
    training.main(smoke=True, out=out)
    return out
