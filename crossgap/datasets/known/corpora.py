"""Read texts to be retrieved by texts: BEIR's queries, corpus and judgements; folders of documents.

Documents are longer than a text tower's context. ``summaries.csv`` (or .parquet) beside them, with the
columns id and summary, takes their place; without it the tokenizer cuts them. Rows say which.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from crossgap.datasets.contents import Contents, read_text
from crossgap.datasets.known.entry import Entry
from crossgap.datasets.known.table import Spec
from crossgap.datasets.tasks import Answers
from crossgap.errors import InputError

CUT = "Documents longer than the context of the text tower are cut by its tokenizer."
_SUMMARIES = ("summaries.parquet", "summaries.csv")


def read_beir(spec: Spec, folder: Path) -> Contents:
    """Read queries, corpus (columns _id, text, perhaps title) and qrels (query-id, corpus-id, perhaps score).

    Raises:
        InputError: a missing folder or column, a judgement of an unknown id, a query without one.
    """
    corpus = _frame(folder / "corpus", ("_id", "text"))
    queries = _frame(folder / "queries", ("_id", "text"))
    qrels = _frame(folder / "qrels", ("query-id", "corpus-id"))
    if "score" in qrels:
        qrels = qrels[qrels["score"] > 0]
    texts = corpus["text"].astype(str).str.strip()
    if "title" in corpus:
        texts = (corpus["title"].fillna("").astype(str) + " " + texts).str.strip()
    documents = dict(zip(corpus["_id"].astype(str), texts, strict=True))
    documents, note = _summarised(folder, documents)
    judged = {str(name): rows for name, rows in qrels.groupby("query-id")["corpus-id"]}
    entries, answers = [], {}
    for name, text in zip(queries["_id"].astype(str), queries["text"].astype(str), strict=True):
        right = tuple(dict.fromkeys(map(str, judged.get(name, ()))))
        lost = [document for document in right if document not in documents]
        if lost or not right:
            what = f"judges the unknown document {lost[0]!r}" if lost else "has no judgement"
            raise InputError(f"{folder / 'qrels'}: query {name!r} {what}")
        query = Entry(id=f"query/{name}", image=None, captions=(text.strip(),), label=f"query {name}")
        entries.append(query)
        answers[f"query/{name}"] = Answers(right)
    gallery = [
        Entry(id=name, image=None, captions=(text,), label="corpus") for name, text in documents.items()
    ]
    return Contents({"queries": entries, "corpus": gallery}, answers={"qrels": answers}, note=note)


def read_documents(spec: Spec, folder: Path) -> Contents:
    """Read a folder a class with a document a file, for each split; mail headers are left out.

    Raises:
        InputError: a missing or empty folder, or an unreadable file.
    """
    documents: dict[str, str] = {}
    where: dict[str, tuple[str, str]] = {}
    for split in spec.counts:
        root = folder / spec.images.format(split)
        classes = [path for path in sorted(root.glob("*")) if path.is_dir() and path.name != "unsup"]
        if not classes:
            raise InputError(f"{root}: no class folders of documents")
        for class_folder in classes:
            for path in sorted(class_folder.iterdir()):
                if path.name.startswith("."):
                    continue
                name = f"{split}/{class_folder.name}/{path.name}"
                # latin-1 reads any bytes; posts are not all UTF-8, and a header ends at the first empty line
                text = read_text(path, "latin-1" if not path.suffix else "utf-8")
                body = text.partition("\n\n")[2] if not path.suffix else text.replace("<br />", " ")
                documents[name] = " ".join((body or text).split()) or "(empty)"
                where[name] = (split, class_folder.name)
    documents, note = _summarised(folder, documents)
    parts: dict[str, list[Entry]] = {split: [] for split in spec.counts}
    for name, text in documents.items():
        split, label = where[name]
        parts[split].append(Entry(id=name, image=None, captions=(text,), label=label))
    names = {label: spec.class_names.get(label, label.replace(".", " ")) for _, label in where.values()}
    return Contents(parts, class_names=names, note=note)


def _frame(folder: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise InputError(f"{folder}: no parquet file")
    try:
        frame = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{folder}: not readable as parquet ({error})") from error
    lacking = [column for column in columns if column not in frame]
    if lacking:
        raise InputError(f"{folder}: no column {lacking[0]!r}; it has {', '.join(map(str, frame.columns))}")
    return frame


def _summarised(folder: Path, documents: dict[str, str]) -> tuple[dict[str, str], str]:
    """Put summaries in the place of documents where the folder has them, and say what was done."""
    path = next((folder / name for name in _SUMMARIES if (folder / name).is_file()), None)
    if path is None:
        return documents, CUT
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
        summaries = dict(zip(frame["id"].astype(str), frame["summary"].astype(str), strict=True))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path}: not readable, or without the columns id and summary ({error})") from error
    lacking = [name for name in documents if not summaries.get(name, "").strip()]
    if lacking:
        raise InputError(f"{path}: no summary of {len(lacking)} documents, the first is {lacking[0]!r}")
    return {name: summaries[name] for name in documents}, f"Documents by their summaries in {path.name}."
