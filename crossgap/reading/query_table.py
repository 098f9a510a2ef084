"""The values of single queries of many runs, read into one frame of bounded size. Imports no torch.

A study has tens of millions of them: with words as categories a row takes 50 bytes, written out 300.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pandas.api.types import union_categoricals

from crossgap.records import TABLES, check_columns, damaged, numeric

_COLUMNS = TABLES["per_query"]


def read_queries(folders: Sequence[Path], metrics: Sequence[str]) -> pd.DataFrame:
    """Concatenate ``per_query.parquet`` of the folders that have it, of some metrics; words are categories.

    Raises:
        InputError: a file is damaged, or has other columns than this version writes.
    """
    paths = [folder / "per_query.parquet" for folder in folders]
    frames = [_read(path, metrics) for path in paths if path.exists()]
    filled = [frame for frame in frames if len(frame)]
    return join(filled) if filled else numeric(pd.DataFrame(columns=list(_COLUMNS)))


def _read(path: Path, metrics: Sequence[str]) -> pd.DataFrame:
    try:
        words = [field.name for field in pq.read_schema(path) if _is_word(field.type)]
        table = pq.read_table(path, read_dictionary=words)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from error
    check_columns(path, "per_query", table.column_names)
    wanted = table.filter(pc.is_in(table["metric"].cast(pa.string()), pa.array(metrics)))
    return numeric(wanted.select(_COLUMNS).to_pandas(ignore_metadata=True))


def _is_word(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def join(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put frames below each other; a column of categories everywhere stays one."""
    words = [
        name
        for name in map(str, frames[0].select_dtypes("category"))
        if all(isinstance(frame[name].dtype, pd.CategoricalDtype) for frame in frames)
    ]
    whole = pd.concat([frame.drop(columns=words) for frame in frames], ignore_index=True)
    joined = {
        name: union_categoricals([frame[name] for frame in frames], sort_categories=True) for name in words
    }
    order = dict.fromkeys(name for frame in frames for name in frame.columns)
    return whole.assign(**joined)[list(order)]
