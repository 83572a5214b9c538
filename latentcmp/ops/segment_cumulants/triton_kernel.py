"""Cumulants in Triton: one program for each piece of a segment and block of columns.

Pieces are CHUNK rows counted from a segment's own first row. The host does not read ptr: a program for each window of
CHUNK rows of x searches for the pieces that start in it. Partial sums are merged in a fixed order.
"""

# Triton kernels have no annotations other than constexpr.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from functools import cache
from math import comb

import torch
import triton
import triton.language as tl
from torch import Tensor

from latentcmp.ops.segment_cumulants.reference import output_dtype

CHUNK = 1024
ROWS = 32
COLUMNS = 64
POWERS = 16  # a power of two above the highest order: rows 0 .. order of it are used


@triton.jit
def segment_rows(ptr, segment, n_rows):
    """First and last row of a segment, clamped to the rows of x."""
    first = tl.minimum(tl.maximum(tl.load(ptr + segment), 0), n_rows)
    last = tl.minimum(tl.maximum(tl.load(ptr + segment + 1), first), n_rows)
    return first, last


@triton.jit
def _segment_of(ptr, row, n_segments, steps):
    """The last segment that starts at a row or before it, by bisection."""
    low = row * 0
    high = low + n_segments
    for _ in range(steps):
        middle = (low + high) // 2
        ahead = (tl.load(ptr + tl.minimum(middle, n_segments)) <= row) & (high - low > 1)
        low = tl.where(ahead, middle, low)
        high = tl.where(ahead | (high - low <= 1), high, middle)
    return low


@triton.jit
def piece(ptr, window, slot, n_rows, n_segments, steps, CHUNK: tl.constexpr):
    """A segment, its rows, and the first row of the piece of it that starts in a window (-1: none; short segments)."""
    begin = window * CHUNK
    end = tl.minimum(begin + CHUNK, n_rows)
    segment = _segment_of(ptr, tl.where(slot == 0, begin, end - 1), n_segments, steps)
    first, last = segment_rows(ptr, segment, n_rows)
    inside = (first > begin) == (slot == 1)
    skipped = tl.where(slot == 0, (begin - first + CHUNK - 1) // CHUNK * CHUNK, 0)
    start = first + skipped
    there = inside & (last - first > CHUNK) & (start < last) & (start < begin + CHUNK)
    return segment, first, last, tl.where(there, start, -1)


@triton.jit
def _power_sums(x, stride, first, last, columns, D, POWERS: tl.constexpr, ROWS: tl.constexpr, ORDER: tl.constexpr):
    """The mean and the sums of powers 0 .. ORDER about it [POWERS, columns], in float64."""
    inside = columns < D
    shift = tl.load(x + first * stride + columns, mask=inside, other=0.0)
    shift = shift.to(tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32)
    total = tl.zeros(columns.shape, tl.float64)
    spread = tl.zeros(columns.shape, tl.float32)
    for start in range(first, last, ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < last)[:, None] & inside[None, :]
        value = tl.load(x + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(shift.dtype)
        value = tl.where(mask, value - shift[None, :], 0.0)
        total += tl.sum(value, 0).to(tl.float64)
        spread = tl.maximum(spread, tl.max(tl.abs(value), 0).to(tl.float32))
    n = (last - first).to(tl.float64)
    mean = (total / n).to(shift.dtype)
    unit = tl.where((spread > 1e-30) & (spread < 1e30), spread, 1.0).to(shift.dtype)
    which = tl.arange(0, POWERS)
    sums = tl.where(which[:, None] == 0, n, tl.zeros((POWERS, columns.shape[0]), tl.float64))
    for start in range(first, last, ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < last)[:, None] & inside[None, :]
        value = tl.load(x + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(shift.dtype)
        value = tl.where(mask, (value - shift[None, :] - mean[None, :]) / unit[None, :], 0.0)
        power = value
        scale = unit.to(tl.float64)
        for p in tl.static_range(1, ORDER + 1):
            part = tl.sum(power, 0).to(tl.float64) * scale
            sums += tl.where(which[:, None] == p, part[None, :], 0.0)
            power = power * value
            scale = scale * unit.to(tl.float64)
    return shift.to(tl.float64) + mean.to(tl.float64), sums


@triton.jit
def _shifted(sums, by, binomials, POWERS: tl.constexpr, ORDER: tl.constexpr):
    """Sums of powers about a point lower by `by` (binomial theorem)."""
    which = tl.arange(0, POWERS)
    out = tl.zeros_like(sums)
    for j in tl.static_range(0, ORDER + 1):
        row = tl.sum(tl.where(which[:, None] == j, sums, 0.0), 0)
        power = row
        for p in tl.static_range(j, ORDER + 1):
            factor = tl.load(binomials + p * POWERS + j)
            out += tl.where(which[:, None] == p, factor * power[None, :], 0.0)
            power = power * by
    return out


@triton.jit
def _row(table, p, POWERS: tl.constexpr):
    return tl.sum(tl.where(tl.arange(0, POWERS)[:, None] == p, table, 0.0), 0)


@triton.jit
def _signed_root(k, m: tl.constexpr):
    size = tl.abs(k)
    safe = tl.where(size > 0, size, 1.0)
    root = tl.exp2(tl.log2(safe) / m)
    root = root - (root - safe / _power(root, m - 1)) / m  # a Newton step corrects the rounding of exp2 and log2
    return tl.where(size > 0, tl.where(k < 0, -root, root), k)


@triton.jit
def _power(v, n: tl.constexpr):
    out = v * 0 + 1.0
    for _ in tl.static_range(n):
        out = out * v
    return out


@triton.jit
def _write(
    out, residual, segment, columns, D, mean, sums, binomials, order,
    POWERS: tl.constexpr, ORDER: tl.constexpr, ROOT: tl.constexpr,
):  # fmt: skip
    """Cumulants from sums: k_m = m_m - sum_j C(m - 1, j - 1) k_j m_{m-j}."""
    inside = columns < D
    n = tl.maximum(_row(sums, 0, POWERS), 1.0)
    left = _row(sums, 1, POWERS) / n
    moments = _shifted(sums, -left, binomials, POWERS, ORDER) / n[None, :]
    k = moments
    for m in tl.static_range(4, ORDER + 1):
        for j in tl.static_range(2, m - 1):
            factor = tl.load(binomials + (m - 1) * POWERS + j - 1)
            part = factor * _row(k, j, POWERS) * _row(moments, m - j, POWERS)
            k -= tl.where(tl.arange(0, POWERS)[:, None] == m, part[None, :], 0.0)
    kind = out.dtype.element_ty
    rounded = (mean + left).to(kind)
    base = out + segment * order * D + columns
    tl.store(base, rounded, mask=inside)
    tl.store(residual + segment * D + columns, (mean + left - rounded.to(tl.float64)).to(kind), mask=inside)
    for m in tl.static_range(2, ORDER + 1):
        value = _row(k, m, POWERS)
        if ROOT:
            value = _signed_root(value, m)
        tl.store(base + (m - 1) * D, value.to(kind), mask=inside)


@triton.jit
def _segments_kernel(
    x, ptr, out, residual, binomials, stride, D, n_rows, order,
    POWERS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
    ORDER: tl.constexpr, ROOT: tl.constexpr,
):  # fmt: skip
    """Segments of up to CHUNK rows; those of empty ones are 0."""
    segment = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first, last = segment_rows(ptr, segment, n_rows)
    if last - first <= CHUNK:
        if last > first:
            mean, sums = _power_sums(x, stride, first, last, columns, D, POWERS, ROWS, ORDER)
            _write(out, residual, segment, columns, D, mean, sums, binomials, order, POWERS, ORDER, ROOT)
        else:
            zeros = tl.zeros((COLUMNS,), out.dtype.element_ty)
            tl.store(residual + segment * D + columns, zeros, mask=columns < D)
            for m in tl.static_range(ORDER):
                tl.store(out + (segment * order + m) * D + columns, zeros, mask=columns < D)


@triton.jit
def _chunks_kernel(
    x, ptr, partials, stride, D, n_rows, n_segments, steps,
    POWERS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, ORDER: tl.constexpr,
):  # fmt: skip
    """Partial sums [2 * windows, ORDER + 2, D] of pieces of long segments: mean and powers 0 .. ORDER."""
    window, slot = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    _, _, last, start = piece(ptr, window, slot, n_rows, n_segments, steps, CHUNK)
    if start >= 0:
        last = tl.minimum(start + CHUNK, last)
        mean, sums = _power_sums(x, stride, start, last, columns, D, POWERS, ROWS, ORDER)
        base = partials + (2 * window + slot) * (ORDER + 2) * D + columns
        tl.store(base, mean, mask=columns < D)
        which = tl.arange(0, POWERS)[:, None]
        mask = (which <= ORDER) & (columns < D)[None, :]
        tl.store(base[None, :] + (which + 1) * D, sums, mask=mask)


@triton.jit
def _merge_kernel(
    ptr, partials, out, residual, binomials, D, n_rows, n_segments, steps, order,
    POWERS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr, ORDER: tl.constexpr, ROOT: tl.constexpr,
):  # fmt: skip
    """Merge the pieces of the long segment that starts in a window about their joint mean, in row order."""
    window, slot = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    segment, first, last, start = piece(ptr, window, slot, n_rows, n_segments, steps, CHUNK)
    if (start >= 0) & (start == first):
        inside = columns < D
        which = tl.arange(0, POWERS)[:, None]
        origin = tl.load(partials + (2 * window + slot) * (ORDER + 2) * D + columns, mask=inside, other=0.0)
        mean = tl.zeros((COLUMNS,), tl.float64)
        for begin in range(first, last, CHUNK):
            place = 2 * (begin // CHUNK) + tl.where(first > begin // CHUNK * CHUNK, 1, 0)
            base = partials + place * (ORDER + 2) * D + columns
            rows = tl.load(base + D, mask=inside, other=0.0)
            left = tl.load(base + 2 * D, mask=inside, other=0.0)
            mean += (tl.load(base, mask=inside, other=0.0) - origin) * rows + left
        mean = origin + mean / (last - first).to(tl.float64)
        total = tl.zeros((POWERS, COLUMNS), tl.float64)
        for begin in range(first, last, CHUNK):
            place = 2 * (begin // CHUNK) + tl.where(first > begin // CHUNK * CHUNK, 1, 0)
            base = partials + place * (ORDER + 2) * D + columns
            mask = (which <= ORDER) & inside[None, :]
            sums = tl.load(base[None, :] + (which + 1) * D, mask=mask, other=0.0)
            total += _shifted(sums, tl.load(base, mask=inside, other=0.0) - mean, binomials, POWERS, ORDER)
        _write(out, residual, segment, columns, D, mean, total, binomials, order, POWERS, ORDER, ROOT)


def segment_cumulants_triton(x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool) -> tuple[Tensor, Tensor]:
    """Cumulants [n_systems, order, D] and, if requested, the residuals of the rounded means [n_systems, D]."""
    x, ptr = x.contiguous(), ptr.contiguous()
    n_systems, columns, wide = ptr.size(0) - 1, x.size(1), output_dtype(x.dtype)
    out = x.new_empty((n_systems, order, columns), dtype=wide)
    left = x.new_empty((n_systems, columns), dtype=wide)
    kept = left if residual else left[:0]
    if n_systems == 0 or columns == 0:
        return out, kept.clone()
    table = [comb(p, j) for p in range(POWERS) for j in range(POWERS)]
    binomials = _binomials(tuple(table), x.device)
    blocks = triton.cdiv(columns, COLUMNS)
    sizes = {"POWERS": POWERS, "COLUMNS": COLUMNS, "CHUNK": CHUNK, "ORDER": order}
    _segments_kernel[(n_systems, blocks)](
        x, ptr, out, left, binomials, x.stride(0), columns, x.size(0), order, ROWS=ROWS, ROOT=root, **sizes
    )
    windows = triton.cdiv(x.size(0), CHUNK)
    if windows > 1:
        partials = x.new_empty((2 * windows, order + 2, columns), dtype=torch.float64)
        where = (columns, x.size(0), n_systems, n_systems.bit_length())
        _chunks_kernel[(windows, 2, blocks)](x, ptr, partials, x.stride(0), *where, ROWS=ROWS, **sizes)
        _merge_kernel[(windows, 2, blocks)](ptr, partials, out, left, binomials, *where, order, ROOT=root, **sizes)
    return out, kept if residual else kept.clone()


@cache
def _binomials(table: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(table, dtype=torch.float64, device=device)
