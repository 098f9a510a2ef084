"""Look at a folder of known datasets before hours of work start: is all there, and as it should be?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossgap.datasets.known.entry import Entry, image_items
from crossgap.datasets.known.layouts import missing_files, read_contents
from crossgap.datasets.known.table import SPECS
from crossgap.datasets.readers.stored import StoredImage
from crossgap.errors import InputError, check_known
from crossgap.progress import told

SAMPLES = 8  # images that are decoded of each part


@dataclass(frozen=True, kw_only=True)
class CheckedDataset:
    """What a data root holds of one dataset.

    ``state`` is embedded, missing (no folder), whole or damaged; ``counts`` are the items of each part,
    ``problems`` what is wrong, each with file, value and expectation.
    """

    name: str
    state: str
    counts: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def check_root(root: Path, names: Sequence[str] = ()) -> Iterator[CheckedDataset]:
    """Check the known datasets below ``root``, or those named, one after the other.

    Of each that is there: the files of its layout, the number of items of each part against the official
    one, that every image file exists, and that :data:`SAMPLES` images of each part can be decoded.

    Raises:
        InputError: no such folder, or an unknown name.
    """
    if not root.is_dir():
        folders = sorted({SPECS[name].folder for name in names or SPECS} - {""})
        raise InputError(
            f"--data-root {root}: no such folder; make it, and place the folders of the datasets in it that "
            f"you want to measure ({', '.join(folders)}). docs/reproduce.md says what lies in each and how "
            "large it is; python -m crossgap.datasets, without --data-root, names source, licence and files"
        )
    for name in names:
        check_known(name, SPECS, "dataset")
    for name in names or SPECS:
        with told(f"checking {name}"):
            checked = _check(name, root)
        yield checked


def _check(name: str, root: Path) -> CheckedDataset:
    spec = SPECS[name]
    if not spec.folder:
        return CheckedDataset(name=name, state="embedded", counts=dict(spec.counts))
    if not (root / spec.folder).is_dir():
        return CheckedDataset(name=name, state="missing", problems=(f"{root / spec.folder} not found",))
    problems = [f"{path} not found" for path in missing_files(spec, root)]
    if problems:
        return CheckedDataset(name=name, state="damaged", problems=tuple(problems))
    try:
        parts = read_contents(name, root=root).parts
    except InputError as error:
        return CheckedDataset(name=name, state="damaged", problems=(str(error),))
    for part, official in spec.counts.items():
        if part not in parts:
            problems.append(f"part {part!r} is missing; there is {', '.join(parts) or 'none'}")
        elif len(parts[part]) != official:
            problems.append(f"part {part!r} has {len(parts[part])} {spec.noun}, officially {official}")
    for part, entries in parts.items():
        problems += _check_images(part, entries)
    labels = {entry.label for part in spec.counts for entry in parts.get(part, ())}
    if spec.template and len(labels) != spec.classes:
        problems.append(f"it has {len(labels)} classes, officially {spec.classes}")
    return CheckedDataset(
        name=name,
        state="damaged" if problems else "whole",
        counts={part: len(entries) for part, entries in parts.items()},
        problems=tuple(problems),
    )


def _check_images(part: str, entries: Sequence[Entry]) -> Iterator[str]:
    files = [_file(entry) for entry in entries]
    gone = [path for path in files if path is not None and not path.is_file()]
    if gone:
        yield f"part {part!r}: {len(gone)} image files not found, the first is {gone[0]}"
    there = [entry for entry, path in zip(entries, files, strict=True) if path is not None and path.is_file()]
    if not there:
        return
    samples = [there[place * len(there) // SAMPLES] for place in range(SAMPLES)]
    kept = {entry.id: entry for entry in samples}
    items = image_items(list(kept.values()), list(kept))
    for index in range(len(items)):
        try:
            items.image(index)
        except InputError as error:
            yield f"part {part!r}: {error}"


def _file(entry: Entry) -> Path | None:
    image = entry.image
    if isinstance(image, StoredImage):
        return image.path
    return image if isinstance(image, Path) else None
