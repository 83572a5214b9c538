"""The gradient in Triton: a polynomial in the centred value, on the pieces of the forward pass."""

# Triton kernels have no annotations other than constexpr.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from latentcmp.ops.segment_cumulants.reference import accumulation_dtype, gradient_coefficients, through_root
from latentcmp.ops.segment_cumulants.triton_kernel import CHUNK, COLUMNS, ROWS, piece, segment_rows


@triton.jit
def _gradient_rows(
    x, centre, left, coefficients, dx, segment, first, last, columns, stride, D,
    ROWS: tl.constexpr, ORDER: tl.constexpr,
):  # fmt: skip
    inside = columns < D
    middle = tl.load(centre + segment * ORDER * D + columns, mask=inside, other=0.0)
    rest = tl.load(left + segment * D + columns, mask=inside, other=0.0)
    base = coefficients + segment * ORDER * D + columns
    for start in range(first, last, ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < last)[:, None] & inside[None, :]
        value = tl.load(x + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0)
        d = value.to(middle.dtype) - middle[None, :] - rest[None, :]
        d = d.to(coefficients.dtype.element_ty)
        slope = tl.zeros_like(d)
        for j in tl.static_range(ORDER):
            slope = slope * d + tl.load(base + (ORDER - 1 - j) * D, mask=inside, other=0.0)[None, :]
        place = dx + rows[:, None] * D + columns[None, :]
        tl.store(place, slope.to(dx.dtype.element_ty), mask=mask)


@triton.jit
def _gradient_kernel(
    x, ptr, centre, left, coefficients, dx, stride, D, n_rows, n_segments, steps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, ORDER: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """One program for each window and slot (LONG: pieces of long segments), or for each short segment."""
    columns = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    if LONG:
        window, slot = tl.program_id(0).to(tl.int64), tl.program_id(1)
        segment, _, end, first = piece(ptr, window, slot, n_rows, n_segments, steps, CHUNK)
        last = tl.where(first >= 0, tl.minimum(first + CHUNK, end), first)
    else:
        segment = tl.program_id(0).to(tl.int64)
        first, last = segment_rows(ptr, segment, n_rows)
        last = tl.where(last - first > CHUNK, first, last)
    _gradient_rows(x, centre, left, coefficients, dx, segment, first, last, columns, stride, D, ROWS, ORDER)


def segment_cumulants_backward_triton(
    grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool
) -> Tensor:
    """The cotangent [n_atoms, D] of x, in its dtype, from that of `out`."""
    x, ptr, out = x.contiguous(), ptr.contiguous(), out.contiguous()
    dx = torch.empty_like(x)
    n_systems, order, columns = out.shape
    if dx.numel() == 0 or n_systems == 0:
        return dx
    coefficients = _coefficients(grad, out, ptr.diff()[:, None].clamp(min=1).double(), x.dtype, root)
    where = (x.stride(0), columns, x.size(0), n_systems, n_systems.bit_length())
    sizes = {"ROWS": ROWS, "COLUMNS": COLUMNS, "CHUNK": CHUNK, "ORDER": order}
    blocks, windows = triton.cdiv(columns, COLUMNS), triton.cdiv(x.size(0), CHUNK)
    given = (x, ptr, out, residual.contiguous(), coefficients, dx, *where)
    _gradient_kernel[(n_systems, 1, blocks)](*given, LONG=False, **sizes)
    if windows > 1:
        _gradient_kernel[(windows, 2, blocks)](*given, LONG=True, **sizes)
    return dx


def _coefficients(grad: Tensor, out: Tensor, counts: Tensor, dtype: torch.dtype, root: bool) -> Tensor:
    """[n_systems, order, D] coefficients of powers of the centred value."""
    cumulants = [torch.zeros_like(out[:, 0], dtype=torch.float64)] * 2 + list(out.double()[:, 1:].unbind(1))
    grad = grad.double()
    if root:
        cumulants = [k if m < 2 else k.sign() * k.abs() ** m for m, k in enumerate(cumulants)]
        grad = through_root(grad, cumulants, torch.finfo(out.dtype).tiny)
    coefficients = gradient_coefficients(grad, cumulants, counts)
    return torch.stack(coefficients, 1).to(accumulation_dtype(dtype, out.size(1)))
