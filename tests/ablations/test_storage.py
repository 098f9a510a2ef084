"""Where a study is kept: what is refused, and that no password is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.running.storage import open_storage, storage_name
from crossgap.errors import InputError

SECRET = "hunter2"  # noqa: S105  (it must not be seen)


def test_names_are_told_without_opening_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", f"postgresql://me:{SECRET}@nowhere.invalid/db")
    assert storage_name("journal") == "journal"
    assert storage_name("sqlite") == "sqlite"
    assert storage_name("env:MINE") == "postgresql"
    assert storage_name("sqlite:////tmp/x.db") == "sqlite"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("env:NOT_SET_HERE", "NOT_SET_HERE is not set"),
        ("nonsense", "is no URL"),
        (f"postgresql://me:{SECRET}@host/db", "has a password in it"),
    ],
)
def test_what_is_no_storage_is_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        storage_name(given)
    assert SECRET not in str(refused.value)


def test_a_variable_that_holds_no_url_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", SECRET)
    with pytest.raises(InputError, match="what MINE holds is no URL") as refused:
        storage_name("env:MINE")
    assert SECRET not in str(refused.value)


def test_a_database_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", f"postgresql://me:{SECRET}@127.0.0.1:1/db")
    with pytest.raises(InputError, match=r"me:\*\*\*@127\.0\.0\.1:1/db does not answer") as refused:
        open_storage("env:MINE", tmp_path)
    assert SECRET not in str(refused.value)


def test_a_missing_driver_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pip install"):
        open_storage("mysql+pymysql://me@127.0.0.1/db", tmp_path)
