"""How every command starts: typed options in, exit code out."""

from __future__ import annotations

import inspect
import io
import os
import signal
import sys
import types
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
from rich.console import Console

from crossgap.errors import InputError
from crossgap.names import readable
from crossgap.progress import speaks
from crossgap.settings.options import with_settings


def run_command(
    main: Callable[..., object],
    argv: Sequence[str] | None = None,
    *,
    settings: Collection[str] = (),
    example: str = "",
) -> int:
    """Parse ``argv`` by the signature of ``main`` and call it.

    With ``settings``, the names of the fields of its configuration, it has ``--set``, ``--config`` and
    ``--print-config`` too, and ``main`` a parameter ``changes`` (:mod:`crossgap.settings.options`).

    Returns the exit code: what ``main`` returned, 0 if that is no number, 2 for an input error or a file that
    the system refuses (a message without a traceback), 130 after Ctrl-C, 141 when nobody reads its output any
    more. Any other exception is a defect of ours and keeps its traceback.
    """
    options = (tyro.conf.FlagCreatePairsOff,)
    arguments = list(sys.argv[1:] if argv is None else argv)

    def call() -> object:
        command = with_settings(main, arguments, settings, example) if settings else main
        return tyro.cli(_plainly(command), prog=_program(), args=arguments, config=options)

    return _guarded(call)


def run_commands(commands: dict[str, Callable[..., int]], argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` as one of several named commands and call that one as :func:`run_command` does."""
    plain = {name: _plainly(command) for name, command in commands.items()}
    return _guarded(lambda: tyro.extras.subcommand_cli_from_dict(plain, prog=_program(), args=argv))


_METAVARS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def _plainly(command: Callable[..., Any]) -> Callable[..., Any]:
    """Show options as people read them: ``--seeds INT``, and no default that says nothing.

    An option that may be left out is described by what happens then; of None, False and () as its default
    the help says no more.
    """
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    for name, part in signature.parameters.items():
        several = part.default is part.empty and get_origin(_kind(hints[name])) is tuple  # as many as given
        if several or part.default is None or part.default is False or part.default == ():
            shown = tyro.conf.arg(metavar=_metavar(hints[name]), help_behavior_hint="")
            hints[name] = Annotated[hints[name], shown]

    def plain(*arguments: Any, **named: Any) -> Any:
        return command(*arguments, **named)

    parameters = [
        part.replace(annotation=hints.get(name, part.annotation))
        for name, part in signature.parameters.items()
    ]
    plain.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    plain.__annotations__ = hints
    plain.__doc__, plain.__name__ = command.__doc__, command.__name__
    return plain


def _kind(hint: Any) -> Any:
    """Leave out what an annotation says beside the kind of its values."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _metavar(hint: Any) -> str | None:
    """Name the kind of value that an option takes, where None may stand in its place."""
    if get_origin(hint) not in (Union, types.UnionType) or type(None) not in get_args(hint):
        return None
    (kind,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(kind) is tuple:
        return f"[{_one(get_args(kind)[0])} ...]"
    if get_origin(kind) is dict:
        return f"[NAME {_one(get_args(kind)[1]) or 'FLOAT ...'} ...]"
    return _one(kind)


def _one(kind: Any) -> str | None:
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    return _METAVARS.get(kind)


def _program() -> str | None:
    """Name the command as it was typed, ``python -m module``."""
    spec = sys.modules["__main__"].__spec__
    return None if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"


def _guarded(call: Callable[[], object]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        code = call()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # who reads our output has read enough, as head does; what is left to flush at exit goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except InputError as error:
        return _refused(str(error))
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        return _refused(
            f"{os.fsdecode(error.filename)}: {error.strerror}; choose another place or free this one"
        )
    except KeyboardInterrupt:
        if speaks():
            print("interrupted; the same command resumes", file=sys.stderr)
        return 130


def _refused(message: str) -> int:
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"error: {readable(message)}", style="red", markup=False, highlight=False)
    return 2
