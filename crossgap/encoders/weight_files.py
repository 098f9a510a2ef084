"""Files of weights as people have them: told by content, not by name, and read without running any.

open_clip tells a file's kind by its suffix and takes only its own names of tensors, and torch refuses a
checkpoint for one number of numpy's in the state of its optimizer. Here such files are made fit for it,
and what is no file of weights is refused with the reason.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crossgap.errors import InputError

_MAKE_SCALAR = np.float64(0).__reduce__()[0]
# a number of numpy's, as open_clip up to 2.29 kept the learning rate of its optimizer: the function that
# makes one, under its names before and after numpy 2, and the types of plain numbers; nothing of it runs code
NUMPY_SCALARS: tuple[Any, ...] = (
    (_MAKE_SCALAR, "numpy.core.multiarray.scalar"),
    (_MAKE_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")),
)
# where a checkpoint keeps its tensors, and what wrappers put before their names
_INSIDE = ("state_dict", "model", "model_state_dict")
_PREFIX = re.compile(r"(module\.|_orig_mod\.)+")
_FEW = 3


@contextlib.contextmanager
def as_open_clip_reads(path: Path) -> Iterator[str]:
    """Give a name of a weights file under which open_clip reads it; a copy where tensors must be renamed.

    Read are safetensors, files of ``torch.save`` and big_vision's ``.npz``, whatever their suffix.

    Raises:
        InputError: no such file, or none of these kinds; says which kind it is instead.
    """
    kind = _kind(path)
    renamed = {".safetensors": _renamed_safetensors, ".pt": _renamed, ".npz": lambda _: None}[kind](path)
    with tempfile.TemporaryDirectory() as folder, _numpy_scalars():
        if renamed is not None:
            under = Path(folder) / "weights.safetensors"
            save_file(renamed, under)
            yield str(under)
        elif path.suffix == kind or (kind == ".pt" and path.suffix not in (".safetensors", ".npz", ".npy")):
            yield str(path)
        else:
            under = Path(folder) / f"weights{kind}"
            under.symlink_to(path.resolve())
            yield str(under)


def read_torch(path: Path, *admitted: type) -> Any:
    """Read a file of ``torch.save`` without running what is in it; ``admitted`` classes beside plain ones.

    Raises:
        InputError: damaged, a TorchScript archive, or it holds objects of other classes, which are named.
    """
    is_zip = zipfile.is_zipfile(path)
    if is_zip and _is_torchscript(path):
        raise InputError(
            f"{path}: a TorchScript archive, which holds code and is not run here. Save its tensors: "
            "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), NEW_FILE); of OpenAI's models "
            "give --pretrained openai"
        )
    try:
        with _numpy_scalars(), torch.serialization.safe_globals(list(admitted)), path.open("rb") as file:
            # torch believes a name that ends in .safetensors
            mapped = is_zip and path.suffix != ".safetensors"
            return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # a damaged zip, a foreign pickle and a forbidden class raise different kinds
        named = _forbidden(path, error)
        if named:
            raise InputError(
                f"{path}: it holds pickled objects ({', '.join(named[:_FEW])}), which could run code and are "
                "not read. Save the tensors alone: torch.save(model.state_dict(), NEW_FILE), or safetensors"
            ) from error
        reason = str(error).split("\n")[0].split(". ")[0]
        raise InputError(
            f"{path}: damaged or not a file of torch.save ({type(error).__name__}: {reason}); its "
            f"{path.stat().st_size} bytes cannot be read, fetch or save it again"
        ) from error


def check_finite(model: nn.Module, where: str) -> None:
    """Refuse weights with NaN or infinity.

    Raises:
        InputError: names ``where`` they are from and the first such tensor.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise InputError(
                f"weights of {where}: tensor {name!r} has {bad} of {tensor.numel()} values that are NaN or "
                "infinite; take an earlier checkpoint, or fetch the file again"
            )


def check_tensors(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Check that tensors have the names and shapes that a model wants.

    Raises:
        InputError: they do not; begins with ``what`` is wrong, and names the first of them.
    """
    unknown, missing = sorted(state.keys() - wanted.keys()), sorted(wanted.keys() - state.keys())
    if unknown or missing:
        raise InputError(f"{what}: unknown tensors: {_some(unknown)}; missing: {_some(missing)}")
    odd = [name for name in sorted(state) if state[name].shape != wanted[name]]
    if odd:
        raise InputError(
            f"{what}: {odd[0]} has shape {tuple(state[odd[0]].shape)}, expected {wanted[odd[0]]}"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"


def _kind(path: Path) -> str:
    """Tell .safetensors, .npz or .pt by the first bytes.

    Raises:
        InputError: not a file that can be read, or of another kind.
    """
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise InputError(f"weights {path}: cannot be read ({error.strerror})") from error
    if head[8:9] == b"{":
        return ".safetensors"
    if head.startswith(b"PK"):
        return ".npz" if zipfile.is_zipfile(path) and _names(path)[0].endswith(".npy") else ".pt"
    if head.startswith(b"\x80"):
        return ".pt"
    size = f"{path.stat().st_size} bytes"
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"weights {path}: a pointer of Git LFS ({size}), not the weights; fetch them with: git lfs pull"
        )
    if head.lstrip()[:1] == b"<":
        raise InputError(f"weights {path}: a web page ({size}), not weights; download the file itself")
    if not head:
        raise InputError(f"weights {path}: an empty file; download or save it again")
    raise InputError(
        f"weights {path}: neither safetensors nor a file of torch.save ({size}, beginning {head[:12]!r}); "
        "give a file of weights"
    )


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist() or [""]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"weights {path}: damaged or cut off ({error}; {path.stat().st_size} bytes); fetch it again"
        ) from error


def _is_torchscript(path: Path) -> bool:
    return any(name.endswith("/constants.pkl") for name in _names(path))


def _renamed_safetensors(path: Path) -> dict[str, Tensor] | None:
    """Check a file of safetensors; return its tensors where open_clip does not know their names."""
    try:
        with safe_open(path, framework="pt") as file:
            return None if _is_known(list(file.keys())) else _without_prefix(load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"weights {path}: damaged or cut off ({error}; {path.stat().st_size} bytes); fetch it again"
        ) from error


def _renamed(path: Path) -> dict[str, Tensor] | None:
    """Check a file of ``torch.save``; return its tensors where open_clip would not find or know them."""
    held = read_torch(path)
    inside = next(
        (key for key in _INSIDE if isinstance(held, dict) and isinstance(held.get(key), dict)), None
    )
    state = held if inside is None else held[inside]
    if not isinstance(state, dict) or not state:
        what = "an empty dict" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise InputError(f"weights {path}: it holds {what}, expected tensors by name (a state_dict)")
    odd = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if odd is not None:
        raise InputError(
            f"weights {path}: {odd!r} is a {type(state[odd]).__name__}, expected a tensor; the state_dict "
            f"may be the file itself or lie under one of {', '.join(_INSIDE)}"
        )
    return None if inside in (None, "state_dict") and _is_known(list(state)) else _without_prefix(state)


def _is_known(names: list[str]) -> bool:
    """Tell whether all names are plain, or all as one wrapper for several processes writes them."""
    prefixes = {match[0] if (match := _PREFIX.match(name)) else "" for name in names}
    return prefixes in ({""}, {"module."})


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # a file of safetensors holds no two names of one memory
    return {_PREFIX.sub("", name, count=1): tensor.clone().contiguous() for name, tensor in state.items()}


def _forbidden(path: Path, error: Exception) -> list[str]:
    """Name the classes for which torch refuses a file."""
    named: list[str] = re.findall(r"GLOBAL ([\w.]+) was not an allowed", str(error))
    with (
        contextlib.suppress(Exception),
        _numpy_scalars(),
    ):  # of a damaged file, or one of the old layout, it knows none
        named += torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return sorted(set(named))


@contextlib.contextmanager
def _numpy_scalars() -> Iterator[None]:
    with torch.serialization.safe_globals(list(NUMPY_SCALARS)):
        yield
