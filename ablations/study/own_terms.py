"""Terms of a user's own: every process that trains learns them from the Python file that registers them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from crossgap.errors import InputError

if TYPE_CHECKING:
    from pretrain.terms import Term

_STUDY_FILE = "study file "  # before a file's path: the name of its module, which shadows no other


@dataclass(frozen=True, kw_only=True)
class TermSource:
    """A Python file that registers terms.

    Args:
        file: that is run, its directory not being on the path.
        module: name to import it by instead, of a file that can be imported.
        function: called without arguments for terms that running the file does not register.
    """

    file: Path
    module: str | None = None
    function: str | None = None


@dataclass(frozen=True, kw_only=True)
class OwnTerms:
    """The terms of an objective that are not the package's own, and the files that register them."""

    names: tuple[str, ...] = ()
    sources: tuple[TermSource, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Give the fields as plain JSON values."""
        sources = [asdict(source) | {"file": str(source.file)} for source in self.sources]
        return {"names": list(self.names), "sources": sources}

    def contents(self) -> dict[str, str]:
        """Hash each file: a term that was changed trains another model."""
        return {
            str(source.file): hashlib.sha256(source.file.read_bytes()).hexdigest() for source in self.sources
        }

    def learn(self) -> None:
        """Register the terms in this process; those that are known already cost nothing.

        Raises:
            InputError: a term that none of the files registers.
        """
        for source in self.sources:
            if not self._missing():
                return
            module = (
                run_file(source.file) if source.module is None else importlib.import_module(source.module)
            )
            if self._missing() and source.function is not None:
                with suppress(InputError):  # of a study that misses the term, which is said below
                    getattr(module, source.function)()
        missing = self._missing()
        if missing:
            files = ", ".join(str(source.file) for source in self.sources)
            tried = f"running {files} does not register it" if files else "no file is known to register it"
            raise InputError(
                f"term {missing[0]!r} of the objective is unknown in the process that trains: {tried}. Write "
                f"TERMS[{missing[0]!r}] = Term(...) at the top of the study's file, or of a module that it "
                "imports, not below 'if __name__' and not under a condition"
            )

    def _missing(self) -> list[str]:
        from pretrain.terms import OF_THE_PACKAGE, TERMS  # which loads torch

        return [name for name in self.names if TERMS.get(name) is OF_THE_PACKAGE.get(name)]


NO_OWN_TERMS = OwnTerms()


def own_terms(weighed: Iterable[str], study: TermSource | None) -> OwnTerms:
    """Tell which terms are not the package's own, and where they come from.

    Args:
        weighed: names of terms in an objective.
        study: the Python file of the study, which is run first.
    """
    from pretrain.terms import OF_THE_PACKAGE, TERMS  # which loads torch

    names = tuple(name for name in weighed if TERMS.get(name) is not OF_THE_PACKAGE.get(name))
    if not names:
        return NO_OWN_TERMS
    of_terms = [source for name in names for source in _sources(TERMS[name])]
    return OwnTerms(
        names=names, sources=tuple(dict.fromkeys([*([] if study is None else [study]), *of_terms]))
    )


def run_file(path: Path) -> ModuleType:
    """Run a Python file as a module that nothing can import, and return it."""
    spec = importlib.util.spec_from_file_location(f"{_STUDY_FILE}{path}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for a class's module
    spec.loader.exec_module(module)
    return module


def _sources(term: Term) -> Iterator[TermSource]:
    """Find the module of a term's function or class; none for a study's file, which is known as that."""
    code = term.function or term.module
    name = getattr(getattr(code, "func", code), "__module__", None)  # the function of a functools.partial
    file = getattr(sys.modules.get(name or ""), "__file__", None)
    if name is not None and file is not None and not name.startswith(_STUDY_FILE):
        yield TermSource(file=Path(file).resolve(), module=None if name == "__main__" else name)
