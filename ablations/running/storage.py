"""Where Optuna keeps a study: a journal in its folder, SQLite there, or a database for many machines."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend

from crossgap.errors import InputError, installed_by
from crossgap.files import write_text

JOURNAL = "journal.log"
SQLITE = "study.db"
OWN = ("journal", "sqlite")  # in the study's folder, of one coordinator at a time
MOST_RETRIES = 2
_FORMS = "journal, sqlite, env:NAME of an environment variable that holds a URL, or a URL without a password"


@dataclass(frozen=True)
class Storage:
    """Optuna's storage; ``shared`` if several coordinators may work on it, ``name`` without any secret.

    A shared one marks running trials by heartbeats, ``heartbeat`` seconds apart.
    """

    backend: BaseStorage
    name: str
    shared: bool
    heartbeat: int = 60

    def close(self) -> None:
        """Close the connections of a database."""
        if isinstance(self.backend, RDBStorage):
            self.backend.remove_session()
            self.backend.engine.dispose()


def storage_name(given: str) -> str:
    """Say what kind of storage is asked for, without opening it: ``journal``, ``sqlite`` or a database.

    Raises:
        InputError: an environment variable that is not set, a URL with a password in it, or no URL.
    """
    if given in OWN:
        return given
    return str(_url(given).get_backend_name())


def open_storage(given: str, folder: Path, *, heartbeat: int = 60) -> Storage:
    """Open the storage of the study in ``folder``, which must be held by the caller unless it is shared.

    A line of the journal that a killed writer left torn is cut off, and a lock that it left is removed.

    Raises:
        InputError: as :func:`storage_name`; or the database does not answer, or its driver is missing.
    """
    name = storage_name(given)
    if given == "journal":
        journal = folder / JOURNAL
        mend_journal(journal)
        return Storage(JournalStorage(JournalFileBackend(str(journal))), name, shared=False)
    if given == "sqlite":
        return Storage(_database(f"sqlite:///{(folder / SQLITE).resolve()}", None), name, shared=False)
    url = _url(given).render_as_string(hide_password=False)
    return Storage(_database(url, heartbeat), name, shared=True, heartbeat=heartbeat)


def mend_journal(journal: Path) -> None:
    """Cut off a torn last line and remove the lock of a writer that is gone; nobody else may be writing."""
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink(missing_ok=True)
    if journal.exists() and (data := journal.read_bytes()) and not data.endswith(b"\n"):
        write_text(journal, data[: data.rfind(b"\n") + 1].decode())


def _url(given: str) -> Any:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    text = given
    if given.startswith("env:"):
        variable = given.removeprefix("env:")
        text = os.environ.get(variable, "")
        if not text:
            raise InputError(
                f"--storage {given}: the environment variable {variable} is not set; export it, as "
                "postgresql://user:password@host/database"
            )
    try:
        url = make_url(text)
    except ArgumentError:
        shown = given if not given.startswith("env:") else f"what {given[4:]} holds"
        raise InputError(f"--storage: {shown} is no URL; give {_FORMS}") from None
    if url.password is not None and not given.startswith("env:"):
        raise InputError(
            "--storage: the URL has a password in it, which every user of the machine could read; put it "
            "into an environment variable and give --storage env:NAME"
        )
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url


def _database(url: str, heartbeat: int | None) -> RDBStorage:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    shown = make_url(url).render_as_string(hide_password=True)
    beating: dict[str, Any] = {}
    with warnings.catch_warnings():  # heartbeats and retries are experimental, for years now
        warnings.simplefilter("ignore", ExperimentalWarning)
        if heartbeat is not None:
            beating = {
                "heartbeat_interval": heartbeat,
                "grace_period": 3 * heartbeat,
                "heartbeat_stale_trial_callback": RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES),
            }
        try:
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True}, **beating)
        except ImportError:
            raise InputError(
                f"storage {shown}: its driver is not installed; for PostgreSQL, {installed_by('postgres')}"
            ) from None
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise InputError(f"storage {shown} does not answer: {reason}") from None


def quiet_optuna() -> None:
    """Let Optuna speak of warnings only."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
