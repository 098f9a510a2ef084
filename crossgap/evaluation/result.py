"""What an evaluation gives: rows, tables and what could not be measured; kept in a folder, read, joined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from crossgap.files import RESULT, read_json, read_lines, write_json
from crossgap.records import TABLES, Row, read_table, row_frame, write_rows, write_table


@dataclass
class Evaluation:
    """Rows, the tables that pictures need, and what could not be measured with the reason.

    ``reused`` counts collections of items by what was done with them: ``encoded`` and ``inverted`` anew (one
    for each batch of settings), ``features_read`` and ``inversions_read`` from the cache.
    """

    rows: list[Row]
    tables: dict[str, pd.DataFrame]
    skipped: dict[str, str]
    reused: dict[str, int] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a frame (docs/rows.md)."""
        return row_frame(self.rows)

    def write(self, out: Path) -> None:
        """Write the tables, then ``rows.jsonl``; each file atomically."""
        for name, frame in self.tables.items():
            write_table(out, name, frame)
        write_rows(out / "rows.jsonl", self.rows)

    def keep(self, folder: Path, dataset_hash: str, settings_hash: str) -> None:
        """Keep the evaluation of one dataset, so that :meth:`read` finds it; what says so is written last."""
        (folder / RESULT).unlink(missing_ok=True)  # of fewer settings, whose tables are replaced
        self.write(folder)
        about = {"dataset_hash": dataset_hash, "settings_hash": settings_hash, "skipped": self.skipped}
        write_json(folder / RESULT, about)

    @classmethod
    def read(cls, folder: Path, dataset_hash: str | None, settings_hash: str) -> Evaluation | None:
        """Return what :meth:`keep` wrote; None if it did not, or of other data or settings."""
        if not (folder / RESULT).exists():
            return None
        result = read_json(folder / RESULT)
        if dataset_hash not in (None, result["dataset_hash"]) or result.get("settings_hash") != settings_hash:
            return None
        tables = {name: read_table([folder], name) for name in TABLES}
        rows = [Row(**line) for line in read_lines(folder / "rows.jsonl")]
        return cls(rows, tables, result["skipped"])


def joined(parts: Iterable[Evaluation]) -> Evaluation:
    """Put the evaluations of several datasets together."""
    parts = list(parts)
    tables = {
        name: pd.concat([part.tables[name] for part in parts], ignore_index=True) for name in parts[0].tables
    }
    skipped: dict[str, str] = {}
    for part in parts:
        of = f"{part.rows[0].dataset}: " if len(parts) > 1 and part.rows else ""
        skipped |= {f"{of}{name}": reason for name, reason in part.skipped.items()}
    counts = dict.fromkeys(name for part in parts for name in part.reused)
    reused = {name: sum(part.reused.get(name, 0) for part in parts) for name in counts}
    return Evaluation([row for part in parts for row in part.rows], tables, skipped, reused)
