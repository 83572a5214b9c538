"""Finds and loads the compiled kernels. Their absence is a reason in words, never an exception."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

import torch

from latentcmp.errors import InputError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_PREFIX = "" if sys.platform == "win32" else "lib"

TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
"""Codes of the element types in csrc/include/latentcmp.h."""

_MEANINGS = {-1: "an extent or the order is out of range", -3: "memory ran out"}


class SegmentsStruct(ctypes.Structure):
    """LcSegments of csrc/include/latentcmp.h, field for field."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("ptr", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("segments", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("order", ctypes.c_int32),
        ("root", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("stream", ctypes.c_void_p),
    )


class CentredRowsStruct(ctypes.Structure):
    """LcCentredRows of csrc/include/latentcmp.h."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("centre", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("squares", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        ("squares_stride", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    )


class FoldStruct(ctypes.Structure):
    """LcFold of csrc/include/latentcmp.h."""

    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("directions", ctypes.c_void_p),
        ("projected", ctypes.c_void_p),
        ("kept", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("rank", ctypes.c_int64),
    )


class CutoffLossesStruct(ctypes.Structure):
    """LcCutoffLosses of csrc/include/latentcmp.h."""

    _fields_ = (
        ("y", ctypes.c_void_p),
        ("columns", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("problems", ctypes.c_int64),
        ("alphas", ctypes.c_int64),
        ("folds", FoldStruct * 2),
        ("stream", ctypes.c_void_p),
    )


class SpectrumStruct(ctypes.Structure):
    """LcSpectrum of csrc/include/latentcmp.h."""

    _fields_ = (
        ("squares", ctypes.c_void_p),
        ("directions", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("rank", ctypes.c_int64),
    )


class GramSpectraStruct(ctypes.Structure):
    """LcGramSpectra of csrc/include/latentcmp.h."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("columns", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("problems", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("centred", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("gram", ctypes.c_void_p),
        ("spectra", SpectrumStruct * 3),
        ("stream", ctypes.c_void_p),
    )


class SmallSvdStruct(ctypes.Structure):
    """LcSmallSvd of csrc/include/latentcmp.h."""

    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("columns", ctypes.c_int64),
        ("problems", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("u", ctypes.c_void_p),
        ("s", ctypes.c_void_p),
        ("vh", ctypes.c_void_p),
        ("stream", ctypes.c_void_p),
    )


def library_path(kind: str) -> Path:
    """Where the library for ``kind`` ("cpu" or "cuda") is looked for; LATENTCMP_LIB names another folder."""
    folder = os.environ.get("LATENTCMP_LIB") or Path(__file__).parents[1] / "lib"
    return Path(folder) / f"{_PREFIX}latentcmp_{kind}{_SUFFIX}"


@cache
def load(kind: str) -> tuple[ctypes.CDLL | None, str]:
    """The library for ``kind`` and "", or None and why it is missing."""
    path = library_path(kind)
    if not path.exists():
        return None, f"{path.name} is not installed: the package was built without a working compiler for it"
    try:
        library = ctypes.CDLL(str(path))
        _declare(library, kind)
    except (OSError, AttributeError) as error:
        return None, f"{path.name} does not load: {error}"
    return library, ""


def library(kind: str) -> ctypes.CDLL:
    """The library for ``kind``, which must be there: RuntimeError with the reason where it is not."""
    found, reason = load(kind)
    if found is None:
        raise RuntimeError(reason)
    return found


def _declare(library: ctypes.CDLL, kind: str) -> None:
    """Signatures of csrc/include/latentcmp.h; an older library without one of them raises AttributeError."""
    segments, pointer = ctypes.POINTER(SegmentsStruct), ctypes.c_void_p
    forward = getattr(library, f"lc_{kind}_segment_cumulants")
    backward = getattr(library, f"lc_{kind}_segment_cumulants_backward")
    forward.argtypes = [segments, pointer, pointer] + ([pointer] if kind == "cuda" else [])
    backward.argtypes = [segments, pointer, pointer, pointer, pointer]
    if kind == "cpu":
        library.lc_cpu_centred_rows.argtypes = [ctypes.POINTER(CentredRowsStruct)]
        library.lc_cpu_cutoff_losses.argtypes = [ctypes.POINTER(CutoffLossesStruct), pointer]
        library.lc_cpu_instruction_set.restype = ctypes.c_char_p
        library.lc_cpu_advise_huge_pages.argtypes = [pointer, ctypes.c_int64]
        library.lc_cpu_advise_huge_pages.restype = None
    else:
        library.lc_cuda_cutoff_losses.argtypes = [ctypes.POINTER(CutoffLossesStruct), ctypes.c_int32, pointer, pointer]
        library.lc_cuda_gram_spectra.argtypes = [ctypes.POINTER(GramSpectraStruct)]
        library.lc_cuda_gram_spectra_fit.argtypes = [ctypes.c_int64]
        library.lc_cuda_small_svd.argtypes = [ctypes.POINTER(SmallSvdStruct)]
        library.lc_cuda_small_svd_fit.argtypes = [ctypes.c_int64, ctypes.c_int64]
        library.lc_cuda_segment_workspace.argtypes = [segments]
        library.lc_cuda_segment_workspace.restype = ctypes.c_int64
        library.lc_cuda_error_name.argtypes = [ctypes.c_int32]
        library.lc_cuda_error_name.restype = ctypes.c_char_p
        library.lc_cuda_lowest_architecture.restype = ctypes.c_int32


def raise_for(code: int, name: str, cuda: ctypes.CDLL | None = None) -> None:
    """Turn a non-zero code of a kernel into an error; positive codes are the CUDA runtime's."""
    if code > 0 and cuda is not None:
        raise RuntimeError(f"{name} could not be launched: {cuda.lc_cuda_error_name(code).decode()}")
    if code == -2:
        raise InputError("ptr must run from 0 to the number of rows of x without falling")
    if code:
        raise RuntimeError(f"{name} failed with code {code}: {_MEANINGS.get(code, 'unknown')}")
