"""Mirror of csrc/include/latentcmp.h: ABI version, type codes, structs and signatures of the entry points."""

from __future__ import annotations

import ctypes

import torch

ABI_VERSION = 2
"""LC_ABI_VERSION of the header; raised with every change of a struct, a signature or a meaning."""

TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
"""LcType of each dtype."""

_POINTER, _INT32, _INT64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class LcSegmentCumulants(ctypes.Structure):
    """Argument of `lc_*_segment_cumulants` and `lc_*_segment_cumulants_backward`."""

    _fields_ = (
        ("x", _POINTER),
        ("ptr", _POINTER),
        ("rows", _INT64),
        ("columns", _INT64),
        ("row_stride", _INT64),
        ("segments", _INT64),
        ("type", _INT32),
        ("order", _INT32),
        ("root", _INT32),
        ("threads", _INT32),
        ("stream", _POINTER),
    )


class LcCentredRows(ctypes.Structure):
    """Argument of `lc_cpu_centred_rows`."""

    _fields_ = (
        ("x", _POINTER),
        ("rows", _POINTER),
        ("centre", _POINTER),
        ("out", _POINTER),
        ("squares", _POINTER),
        ("count", _INT64),
        ("columns", _INT64),
        ("row_stride", _INT64),
        ("out_stride", _INT64),
        ("squares_stride", _INT64),
        ("type", _INT32),
        ("threads", _INT32),
    )


class LcFold(ctypes.Structure):
    """One fold of `LcCutoffLosses`."""

    _fields_ = (
        ("rows", _POINTER),
        ("directions", _POINTER),
        ("projected", _POINTER),
        ("kept", _POINTER),
        ("count", _INT64),
        ("rank", _INT64),
    )


class LcCutoffLosses(ctypes.Structure):
    """Argument of `lc_*_cutoff_losses`."""

    _fields_ = (
        ("y", _POINTER),
        ("columns", _INT64),
        ("row_stride", _INT64),
        ("problems", _INT64),
        ("alphas", _INT64),
        ("folds", LcFold * 2),
        ("stream", _POINTER),
    )


class LcSpectrum(ctypes.Structure):
    """One spectrum of `LcGramSpectra`."""

    _fields_ = (
        ("squares", _POINTER),
        ("directions", _POINTER),
        ("count", _INT64),
        ("rank", _INT64),
    )


class LcGramSpectra(ctypes.Structure):
    """Argument of `lc_cuda_gram_spectra`."""

    _fields_ = (
        ("x", _POINTER),
        ("rows", _POINTER),
        ("columns", _INT64),
        ("row_stride", _INT64),
        ("problems", _INT64),
        ("count", _INT64),
        ("centred", _POINTER),
        ("mean", _POINTER),
        ("gram", _POINTER),
        ("spectra", LcSpectrum * 3),
        ("stream", _POINTER),
    )


class LcSmallSvd(ctypes.Structure):
    """Argument of `lc_cuda_small_svd`."""

    _fields_ = (
        ("rows", _POINTER),
        ("columns", _INT64),
        ("problems", _INT64),
        ("count", _INT64),
        ("rank", _INT64),
        ("u", _POINTER),
        ("s", _POINTER),
        ("vh", _POINTER),
        ("stream", _POINTER),
    )


class LcLocalTarget(ctypes.Structure):
    """One target of `LcLocalRidge`."""

    _fields_ = (
        ("train", _POINTER),
        ("test", _POINTER),
        ("columns", _INT64),
        ("train_stride", _INT64),
        ("test_stride", _INT64),
    )


class LcLocalRidge(ctypes.Structure):
    """Argument of `lc_cpu_local_ridge`."""

    _fields_ = (
        ("x", _POINTER),
        ("query", _POINTER),
        ("rows", _POINTER),
        ("strengths", _POINTER),
        ("targets", _POINTER),
        ("columns", _INT64),
        ("row_stride", _INT64),
        ("query_stride", _INT64),
        ("problems", _INT64),
        ("count", _INT64),
        ("first_count", _INT64),
        ("n_strengths", _INT64),
        ("n_targets", _INT64),
    )


class LcRidgeFold(ctypes.Structure):
    """Argument of `lc_cuda_local_ridge`."""

    _fields_ = (
        ("y", _POINTER),
        ("directions", _POINTER),
        ("projected", _POINTER),
        ("filters", _POINTER),
        ("columns", _INT64),
        ("problems", _INT64),
        ("n_strengths", _INT64),
        ("rank", _INT64),
        ("start", _INT64),
        ("count", _INT64),
        ("other_start", _INT64),
        ("other_count", _INT64),
        ("stream", _POINTER),
    )


STRUCTS: tuple[type[ctypes.Structure], ...] = (
    LcSegmentCumulants,
    LcCentredRows,
    LcFold,
    LcCutoffLosses,
    LcSpectrum,
    LcGramSpectra,
    LcSmallSvd,
    LcLocalTarget,
    LcLocalRidge,
    LcRidgeFold,
)

# Result type and argument types of every entry point, by library; those of the ABI itself are in both.
_SEGMENTS = ctypes.POINTER(LcSegmentCumulants)
SIGNATURES: dict[str, dict[str, tuple[type | None, tuple[type, ...]]]] = {
    "cpu": {
        "lc_cpu_segment_cumulants": (_INT32, (_SEGMENTS, _POINTER, _POINTER)),
        "lc_cpu_segment_cumulants_backward": (_INT32, (_SEGMENTS, _POINTER, _POINTER, _POINTER, _POINTER)),
        "lc_cpu_centred_rows": (_INT32, (ctypes.POINTER(LcCentredRows),)),
        "lc_cpu_cutoff_losses": (_INT32, (ctypes.POINTER(LcCutoffLosses), _POINTER)),
        "lc_cpu_local_ridge": (_INT32, (ctypes.POINTER(LcLocalRidge), _POINTER)),
        "lc_cpu_instruction_set": (ctypes.c_char_p, ()),
        "lc_cpu_advise_huge_pages": (None, (_POINTER, _INT64)),
    },
    "cuda": {
        "lc_cuda_segment_cumulants": (_INT32, (_SEGMENTS, _POINTER, _POINTER, _POINTER)),
        "lc_cuda_segment_cumulants_workspace": (_INT64, (_SEGMENTS,)),
        "lc_cuda_segment_cumulants_backward": (_INT32, (_SEGMENTS, _POINTER, _POINTER, _POINTER, _POINTER)),
        "lc_cuda_cutoff_losses": (_INT32, (ctypes.POINTER(LcCutoffLosses), _INT32, _POINTER, _POINTER)),
        "lc_cuda_gram_spectra": (_INT32, (ctypes.POINTER(LcGramSpectra),)),
        "lc_cuda_gram_spectra_fits": (_INT32, (_INT64,)),
        "lc_cuda_small_svd": (_INT32, (ctypes.POINTER(LcSmallSvd),)),
        "lc_cuda_small_svd_fits": (_INT32, (_INT64, _INT64)),
        "lc_cuda_local_ridge": (_INT32, (ctypes.POINTER(LcRidgeFold), _POINTER, _POINTER)),
        "lc_cuda_error_name": (ctypes.c_char_p, (_INT32,)),
        "lc_cuda_lowest_architecture": (_INT32, ()),
    },
}


def declare(library: ctypes.CDLL, kind: str) -> None:
    """Set the signatures of a library's entry points; AttributeError where one is not exported."""
    for name, (result, arguments) in SIGNATURES[kind].items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def difference(library: ctypes.CDLL, kind: str) -> str:
    """Where the ABI of a library differs from this one, or ""; libraries before version 1 export no version."""
    version = getattr(library, f"lc_{kind}_abi_version", None)
    found = version() if version is not None else 0
    if found != ABI_VERSION:
        return f"its ABI version is {found}, expected {ABI_VERSION}"
    size_of = getattr(library, f"lc_{kind}_struct_size")
    size_of.restype, size_of.argtypes = _INT64, (ctypes.c_char_p,)
    for struct in STRUCTS:
        size, expected = size_of(struct.__name__.encode()), ctypes.sizeof(struct)
        if size != expected:
            return f"its {struct.__name__} has {size} bytes, expected {expected}"
    return ""
