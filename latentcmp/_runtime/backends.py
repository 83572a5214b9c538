"""Chooses what runs an operator: cpu (C++), cuda (CUDA C++), triton, or reference (PyTorch)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

import torch

from latentcmp._runtime import native
from latentcmp.errors import InputError

BACKENDS = ("cpu", "cuda", "triton", "reference")


def choose(offered: Mapping[str, tuple[str, ...]], device: str, backend: str | None = None) -> str:
    """Choose the backend of one operator call.

    Args:
        offered: the operator's backends by device type, the preferred one first; "reference" is one of them.
        device: the device type of the tensors.
        backend: the name of one of them. None takes LATENTCMP_BACKEND where the operator has that backend on this
            device, else the first that is available.

    Raises:
        InputError: the operator has no such backend on this device, the backend is not available, or
            LATENTCMP_BACKEND is not the name of any backend.
    """
    names = _offered_on(offered, device)
    if backend is not None and backend not in names:
        raise InputError(
            f"this operator has no backend {backend!r} for {device} tensors; choose one of {', '.join(names)}"
        )
    requested = backend or _requested_by_environment(names)
    if requested is None:
        return next(name for name in names if not why_missing(name))
    reason = why_missing(requested)
    if reason:
        raise InputError(f"backend {requested!r} is not available: {reason}")
    return requested


# What torch.compiler.assume_constant_result does, without importing the compiler (1.5 s) to do it.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _offered_on(offered: Mapping[str, tuple[str, ...]], device: str) -> tuple[str, ...]:
    names = offered.get(device, ("reference",))
    interpreted = device == "cpu" and _interpreted() and "triton" in offered.get("cuda", ())
    return (*names, "triton") if interpreted else names


def _requested_by_environment(names: tuple[str, ...]) -> str | None:
    requested = os.environ.get("LATENTCMP_BACKEND")
    if requested and requested not in BACKENDS:
        raise InputError(f"LATENTCMP_BACKEND is {requested!r}, expected one of {', '.join(BACKENDS)}")
    return requested if requested in names else None


@cache
def why_missing(backend: str) -> str:
    """The reason why a backend cannot be used on this machine, or ""."""
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


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
