"""Finds, loads and calls the compiled kernels. A library that cannot be used is a reason in words, not an exception."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from latentcmp._runtime import abi
from latentcmp.errors import InputError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_PREFIX = "" if sys.platform == "win32" else "lib"
INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
"""What LATENTCMP_ISA may name: the widest instruction set that the CPU kernels may use."""
_MEANINGS = {-1: "an extent or the order is out of range", -3: "out of memory"}


def library_path(kind: str) -> Path:
    """The path of the library `kind` ("cpu" or "cuda"), in the folder LATENTCMP_LIB or in the package."""
    folder = os.environ.get("LATENTCMP_LIB") or Path(__file__).parents[1] / "lib"
    return Path(folder) / f"{_PREFIX}latentcmp_{kind}{_SUFFIX}"


@cache
def load(kind: str) -> tuple[ctypes.CDLL | None, str]:
    """The library `kind` and "", or None and the reason why it cannot be used.

    Raises:
        InputError: LATENTCMP_ISA names no instruction set.
    """
    if kind == "cpu":
        _check_instruction_set()
    path = library_path(kind)
    if not path.exists():
        return None, f"{path.name} is not installed: the package was built without a working compiler for it"
    try:
        library = ctypes.CDLL(str(path))
        different = abi.difference(library, kind)
        if different:
            return None, f"{path} does not match this version of latentcmp ({different}); install latentcmp again"
        abi.declare(library, kind)
    except (OSError, AttributeError) as error:
        return None, f"{path.name} does not load: {error}"
    return library, ""


def library(kind: str) -> ctypes.CDLL:
    """The library `kind`; RuntimeError with the reason where it cannot be used."""
    loaded, reason = load(kind)
    if loaded is None:
        raise RuntimeError(reason)
    return loaded


def run(name: str, device: torch.device, struct: ctypes.Structure, *arguments: int | None) -> None:
    """Call the entry point `name` of the device's library, with that device as the current one.

    Args:
        name: as in `lc_cpu_<name>` and `lc_cuda_<name>`.
        device: of all tensors that the arguments point to.
        struct: its first argument, passed by reference.
        arguments: the others.

    Raises:
        InputError: the kernel refuses the offsets of segments.
        RuntimeError: any other failure.
    """
    kind = device.type
    function = getattr(library(kind), f"lc_{kind}_{name}")
    if kind == "cuda":
        with torch.cuda.device(device):
            code = function(ctypes.byref(struct), *arguments)
    else:
        code = function(ctypes.byref(struct), *arguments)
    if code:
        _raise_for(code, kind, name)


def current_stream(device: torch.device) -> int | None:
    """The current CUDA stream of a device as an address; None on a CPU."""
    return torch._C._cuda_getCurrentRawStream(device.index) if device.type == "cuda" else None


def unit_columns(x: Tensor) -> Tensor:
    """The matrix itself where its columns have unit stride, at any row stride, else a contiguous copy."""
    return x if x.stride(1) == 1 else x.contiguous()


def _check_instruction_set() -> None:
    name = os.environ.get("LATENTCMP_ISA")
    if name and name not in INSTRUCTION_SETS:
        raise InputError(
            f"LATENTCMP_ISA is {name!r}, expected one of {', '.join(INSTRUCTION_SETS)}; unset it to use the widest "
            "that the CPU supports"
        )


def _raise_for(code: int, kind: str, name: str) -> None:
    """Turn the code of a kernel into an error; positive codes are those of the CUDA runtime."""
    if code == -2:
        raise InputError("ptr must run from 0 to the number of rows of x without decreasing")
    if code > 0 and kind == "cuda":
        raise RuntimeError(f"lc_cuda_{name} failed: {library(kind).lc_cuda_error_name(code).decode()}")
    raise RuntimeError(f"lc_{kind}_{name} failed with code {code}: {_MEANINGS.get(code, 'unknown')}")
