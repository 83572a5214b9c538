"""Cumulants of each segment and column: atoms to structures in one operator."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.ops.segment_cumulants.reference import segment_cumulants_reference
from latentcmp.segments import check_ptr

MAX_ORDER = 8


def segment_cumulants(
    x: Tensor, ptr: Tensor, order: int = 4, *, root: bool = False, backend: str | None = None
) -> Tensor:
    """Cumulants 1..order of the rows of each segment, column by column.

    k_1 is the mean; with central moments m_j = (1/n) sum (x - mean)^j, k_2 = m_2, k_3 = m_3,
    k_4 = m_4 - 3 m_2^2 and so on to k_8 (M. G. Kendall and A. Stuart, The Advanced Theory of Statistics,
    vol. 1, ch. 3).
    Powers are taken about the mean, so a large mean costs no accuracy and a constant column gives exactly 0.
    An empty segment gives 0 in every order, a segment of one row its mean and then 0. NaN and inf stay in
    their own segment and column.

    Args:
        x: [n_atoms, D] float16, bfloat16, float32 or float64, any strides.
        ptr: [n_systems + 1] int64 on x's device; segment s is rows ptr[s]:ptr[s + 1]. See ``Segments``.
        order: the highest cumulant, 1..8.
        root: give sign(k_m) |k_m|^(1/m), which has the unit of x. Its gradient is taken as 0 at k_m = 0 and
            wherever the slope would overflow the output's type.
        backend: force one by name; None takes LATENTCMP_BACKEND or the fastest available.

    Returns:
        [n_systems, order, D], float64 for float64 input and float32 for the rest; ``.flatten(1)`` is the
        order-major descriptor.

    Raises:
        InputError: a wrong rank, dtype, device or order, or a ptr that does not run from 0 to n_atoms without
            falling. The contents of ptr are read on the CPU; on an accelerator only under LATENTCMP_CHECK=1.
    """
    _check(x, ptr, order)
    if backend not in (None, "reference"):
        raise InputError(f"backend {backend!r} is not available here; available: reference")
    return segment_cumulants_reference(x, ptr, order, root)


def _check(x: Tensor, ptr: Tensor, order: int) -> None:
    if not isinstance(x, Tensor) or not isinstance(ptr, Tensor):
        raise InputError(f"x and ptr must be tensors, got {type(x).__name__} and {type(ptr).__name__}")
    if x.dim() != 2 or x.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise InputError(f"x must be [n_atoms, D] floating point, got {x.dtype} {tuple(x.shape)}")
    if ptr.dim() != 1 or ptr.dtype != torch.int64 or ptr.size(0) == 0:
        raise InputError(f"ptr must be [n_systems + 1] int64, got {ptr.dtype} {tuple(ptr.shape)}")
    if ptr.device != x.device:
        raise InputError(f"ptr is on {ptr.device} and x on {x.device}; move ptr with ptr.to(x.device)")
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= MAX_ORDER:
        raise InputError(f"order must be an integer from 1 to {MAX_ORDER}, got {order!r}")
    readable = x.device.type == "cpu" or os.environ.get("LATENTCMP_CHECK") == "1"
    if readable and not torch.compiler.is_compiling():
        check_ptr(ptr, x.size(0))
