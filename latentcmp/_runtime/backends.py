"""Chooses what runs an operator: cpu (C++), cuda (CUDA C++), triton, or reference (plain torch)."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch

from latentcmp._runtime import native
from latentcmp.errors import InputError

BACKENDS = ("cpu", "cuda", "triton", "reference")
PREFERRED = {
    ("cpu", "narrow"): ("cpu", "reference"),
    ("cpu", "wide"): ("cpu", "reference"),
    # No GPU has timed the two yet. cuda goes first: it is launched from C and compiled before it is first called.
    ("cuda", "narrow"): ("cuda", "triton", "reference"),
    ("cuda", "wide"): ("cuda", "triton", "reference"),
}
"""From the fastest, by device and shape class; the place to write down what `latentcmp bench pooling` measures."""
NARROW = 128
"""Rows of fewer columns are narrow: in float32 they do not give each lane of a warp a load of 16 bytes."""
_DEVICES = {"cpu": ("cpu",), "cuda": ("cuda",), "triton": ("cuda",)}


def shape_class(columns: int) -> str:
    """The class of a shape in ``PREFERRED``: "narrow" or "wide"."""
    return "narrow" if columns < NARROW else "wide"


def choose(device: str, backend: str | None = None, shape: str = "wide") -> str:
    """The backend for tensors on a device type: the one asked for, LATENTCMP_BACKEND, or its shape class's fastest.

    Raises:
        InputError: the one asked for has no such name, does not run on the device, or is missing (and why).
    """
    asked = backend or os.environ.get("LATENTCMP_BACKEND") or None
    if asked is None:
        return next((name for name in PREFERRED.get((device, shape), ()) if not why_missing(name)), "reference")
    if asked not in BACKENDS:
        raise InputError(f"there is no backend {asked!r}; choose one of {', '.join(BACKENDS)}")
    if asked != "reference" and device not in _runs_on(asked):
        raise InputError(f"backend {asked!r} runs on {' and '.join(_runs_on(asked))} tensors, these are on {device}")
    reason = why_missing(asked)
    if reason:
        raise InputError(f"backend {asked!r} is not available: {reason}")
    return asked


# What torch.compiler.assume_constant_result does, without importing the compiler (1.5 s) to do it.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def why_missing(backend: str) -> str:
    """Why a backend cannot be used here, or "" where it can."""
    if backend == "reference":
        return ""
    if backend == "triton":
        if find_spec("triton") is None:
            return "triton is not installed; pip install triton"
        return "" if _interpreted() or torch.cuda.is_available() else "torch sees no CUDA device"
    library, reason = native.load(backend)
    if library is None or backend == "cpu":
        return reason
    return _too_old(library.lc_cuda_lowest_architecture()) if torch.cuda.is_available() else "torch sees no CUDA device"


def _too_old(lowest: int) -> str:
    """What to do where kernels for sm_<lowest> and later do not run on the current GPU, or ""."""
    major, minor = torch.cuda.get_device_capability()
    architecture = 10 * major + minor
    if architecture >= lowest:
        return ""
    return (
        f"it was built for GPUs from sm_{lowest} on, and this is one of sm_{architecture}; install again from source "
        f"with CUDAARCHS={architecture} set"
    )


def describe() -> dict[str, str]:
    """One line for each backend: what it runs on, or why it is missing."""
    lines = {}
    for backend in BACKENDS:
        reason = why_missing(backend)
        lines[backend] = f"missing: {reason}" if reason else f"available ({_detail(backend)})"
    return lines


def _detail(backend: str) -> str:
    library, _ = native.load("cpu") if backend == "cpu" else (None, "")
    if library is not None:
        return f"C++, {library.lc_cpu_instruction_set().decode()}, {torch.get_num_threads()} threads"
    on_device = f"{torch.cuda.get_device_name()}" if torch.cuda.is_available() else "interpreted on the CPU"
    return f"torch {torch.__version__}" if backend == "reference" else on_device


def _runs_on(backend: str) -> tuple[str, ...]:
    return ("cpu", "cuda") if backend == "triton" and _interpreted() else _DEVICES[backend]


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
