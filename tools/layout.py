"""How the house is built: sizes by package, the longest of each kind, cycles, and the picture of its rooms.

python -m tools.layout                # the numbers
python -m tools.layout --write        # the picture in docs/architecture.md, from the imports as they are
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crossgap", "pretrain", "ablations", "analysis")
PAGE = ROOT / "docs" / "architecture.md"
MARKS = ("<!-- rooms: written by python -m tools.layout --write -->\n", "<!-- end of rooms -->\n")
# the most that a folder, a file, a class and a function may hold
MOST = {"modules in a folder": 20, "lines of a file": 450, "lines of a class": 250, "lines of a function": 60}


@dataclass(frozen=True)
class FolderSize:
    """How long something is, and where it stands."""

    lines: int
    where: str


def modules() -> dict[str, Path]:
    """Name every module of the packages: dotted name -> file."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {dotted(path): path for path in sorted(files)}


def dotted(path: Path) -> str:
    """Give a file's module name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str, path: Path, known: dict[str, Path], *, at_start: bool = False) -> set[str]:
    """List the modules of ours that one imports; ``at_start``: only what is imported with it."""
    found = set()
    for node in _statements(ast.parse(path.read_text("utf-8")), at_start):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    ours = {module for module in found if module in known and module != name}
    # a package that is named only on the way to a module of its own is not what is imported
    return {module for module in ours if not any(other.startswith(f"{module}.") for other in ours)}


def _statements(tree: ast.Module, at_start: bool) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue  # names for annotations alone
        yield from [node] if at_start else ast.walk(node)


def import_cycles(known: dict[str, Path]) -> list[str]:
    """Name a cycle of modules that import each other when they are loaded; none is [].

    Lazy names of a package and imports in functions load nothing, so they close no cycle.
    """
    graph = {name: imports(name, path, known, at_start=True) for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def sizes(known: dict[str, Path]) -> dict[str, list[FolderSize]]:
    """Measure folders, files, classes and functions, the longest of each kind first."""
    measured: dict[str, list[FolderSize]] = {kind: [] for kind in MOST}
    folders: dict[Path, int] = defaultdict(int)
    for path in known.values():
        where = str(path.relative_to(ROOT))
        text = path.read_text("utf-8")
        folders[path.parent] += path.name != "__init__.py"
        measured["lines of a file"].append(FolderSize(len(text.splitlines()), where))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                kind = "lines of a class" if isinstance(node, ast.ClassDef) else "lines of a function"
                measured[kind].append(FolderSize(_length(node), f"{where}: {node.name}"))
    measured["modules in a folder"] = [
        FolderSize(count, str(folder.relative_to(ROOT))) for folder, count in folders.items()
    ]
    return {kind: sorted(found, key=lambda size: -size.lines) for kind, found in measured.items()}


def _length(node: ast.ClassDef | ast.FunctionDef) -> int:
    """Count a definition's lines; of a function without its docstring, which grows with its parameters."""
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
        first = node.body[0]
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
        if len(node.body) > 1:  # and without its signature
            lines -= first.lineno - node.lineno
    return lines


def rooms(known: dict[str, Path]) -> dict[str, set[str]]:
    """Tell which rooms, folders of modules, use which others."""
    used_by = {name: imports(name, path, known) for name, path in known.items()}
    room = {name: _room(name, path, known, used_by) for name, path in known.items()}
    used: dict[str, set[str]] = defaultdict(set)
    for name, others in used_by.items():
        used[room[name]] |= {room[other] for other in others} - {room[name]}
    return dict(used)


def _room(name: str, path: Path, known: dict[str, Path], used_by: dict[str, set[str]]) -> str:
    """Name the folder that a module lies in, at most one below its package.

    Modules of the package itself are two rooms: what the rooms below need, and what needs the rooms.
    """
    package, *below = path.relative_to(ROOT).parent.parts[:2]
    if below:
        return f"{package}/{below[0]}"
    inside = {module for module, file in known.items() if file.parent == ROOT / package}
    needed, left = set[str](), set(known) - inside
    while left:
        left = {other for module in left for other in used_by[module]} & inside - needed
        needed |= left
    return f"{package}/{'base' if name in needed else 'commands'}"


def picture(known: dict[str, Path]) -> str:
    """Draw the rooms and what they use, as a Mermaid chart; what follows from other arrows is left out."""
    used = rooms(known)
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        lines.append(f"  subgraph {package}")
        inside = sorted(room for room in used if room.split("/")[0] == package)
        lines += [f'    {_id(room)}["{room.partition("/")[2]}"]' for room in inside]
        lines.append("  end")
    lines += [
        f"  {_id(room)} --> {_id(other)}" for room in sorted(used) for other in sorted(_direct(used, room))
    ]
    return "\n".join([*lines, "```", ""])


def _id(room: str) -> str:
    return room.replace("/", "_")


def _direct(used: dict[str, set[str]], room: str) -> set[str]:
    """Leave out a room that another used one uses too, as long as that is a one-way street."""
    others = used.get(room, set())
    return {
        other
        for other in others
        if not any(
            other in used.get(between, ()) and between not in used.get(other, ())
            for between in others - {other}
        )
    }


def written(page: str, chart: str) -> str:
    """Put a chart between its marks in a page."""
    head, _, rest = page.partition(MARKS[0])
    _, _, tail = rest.partition(MARKS[1])
    return f"{head}{MARKS[0]}{chart}{MARKS[1]}{tail}"


def main(arguments: list[str]) -> None:
    """Print the numbers, or write the picture."""
    known = modules()
    if arguments == ["--write"]:
        PAGE.write_text(written(PAGE.read_text("utf-8"), picture(known)), "utf-8")
        return
    for package in PACKAGES:
        files = [path for path in known.values() if path.relative_to(ROOT).parts[0] == package]
        lines = sum(len(path.read_text("utf-8").splitlines()) for path in files)
        print(f"{package}: {len(files)} files, {lines:,} lines")
    for kind, found in sizes(known).items():
        over = [size for size in found if size.lines > MOST[kind]]
        print(f"\n{kind}: at most {MOST[kind]}; {len(over)} over it; the three longest:")
        for size in [*over, *(size for size in found if size not in over)][: max(3, len(over))]:
            print(f"  {size.lines:5}  {size.where}")
    cycle = import_cycles(known)
    print(f"\nimport cycle: {' -> '.join(cycle) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
