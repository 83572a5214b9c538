"""Cumulants of each segment and column: features of atoms to features of structures."""

# torch.autograd.Function.apply has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.ops.segment_cumulants import op

MAX_ORDER = 8


def segment_cumulants(
    x: Tensor, ptr: Tensor, order: int = 4, *, root: bool = False, backend: str | None = None
) -> Tensor:
    """Compute the cumulants 1..order of the rows of each segment, column by column.

    k_1 is the mean; with central moments m_j = (1/n) sum (x - mean)^j, k_2 = m_2, k_3 = m_3,
    k_4 = m_4 - 3 m_2^2 and so on to k_8 (M. G. Kendall and A. Stuart, The Advanced Theory of Statistics,
    vol. 1, ch. 3).
    Powers are taken about the mean, so a large mean does not reduce the accuracy and a constant column gives exactly
    0. An empty segment gives 0 in every order, a segment of one row its mean and then 0. NaN and inf affect their own
    segment and column only.

    Args:
        x: [n_atoms, D] float16, bfloat16, float32 or float64, any strides.
        ptr: [n_systems + 1] int64 on x's device; segment s is rows ptr[s]:ptr[s + 1]. See `Segments`.
        order: the highest cumulant, 1..8.
        root: return sign(k_m) |k_m|^(1/m), which has the unit of x. Its gradient is taken as 0 at k_m = 0 and
            wherever the slope would overflow the output's type.
        backend: "cpu" on a CPU, "cuda" or "triton" on a GPU, or "reference"; None takes LATENTCMP_BACKEND where it is
            one of these, else the first available.

    Returns:
        [n_systems, order, D], float64 for float64 input and float32 for the rest; `.flatten(1)` is the
        order-major descriptor.

    Raises:
        InputError: a wrong rank, dtype, device or order, a ptr that does not run from 0 to n_atoms without
            decreasing, or a backend that is not available. The values of ptr are checked on the CPU; on an
            accelerator only under LATENTCMP_CHECK=1, because it synchronises.
    """
    _check(x, ptr, order)
    chosen = backends.choose(op.BACKENDS, x.device.type, backend)
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _Cumulants.apply(x, ptr, order, root, chosen)[0]
    else:
        out = torch.ops.latentcmp.segment_cumulants(x, ptr, order, root, False, chosen)[0]
    return out


class _Cumulants(torch.autograd.Function):
    """Saves x, the cumulants and the residuals of the rounded means: only x has n_atoms rows."""

    @staticmethod
    def forward(x: Tensor, ptr: Tensor, order: int, root: bool, backend: str) -> tuple[Tensor, Tensor]:
        out, residual = torch.ops.latentcmp.segment_cumulants(x, ptr, order, root, True, backend)
        return out, residual

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ptr, _, ctx.root, ctx.backend = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, ptr, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, ptr, out, residual = ctx.saved_tensors
        return _Gradient.apply(grad, x, ptr, out, residual, ctx.root, ctx.backend), None, None, None, None


class _Gradient(torch.autograd.Function):
    """The backward pass as a function of its own, so that it can be differentiated again."""

    @staticmethod
    def forward(
        grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool, backend: str
    ) -> Tensor:
        dx: Tensor = torch.ops.latentcmp.segment_cumulants_backward(grad, x, ptr, out, residual, root, backend)
        return dx

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grad, x, ptr, _, _, ctx.root, _ = inputs
        ctx.save_for_backward(grad, x, ptr)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        grad, x, ptr = ctx.saved_tensors
        cotangents = op.double_backward(cotangent, grad, x, ptr, ctx.root, create_graph=torch.is_grad_enabled())
        return *cotangents, None, None, None, None, None  # out is a function of x here, not an input


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
