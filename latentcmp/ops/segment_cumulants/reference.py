"""Segment-wise cumulants in PyTorch: the oracle of the kernels, and the backend that is always available.

Segments of equal length are reduced together as one dense [systems, length, D] block that fits in cache, so no
intermediate of the size of x is written to memory. Every step is differentiable by autograd to any order. Under
`torch.no_grad` all blocks reuse the same memory, because page faults take longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import comb, prod

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1 << 17
"""Elements of a block: together with its powers it fits a level-2 cache."""


class _Buffers:
    """Memory for two blocks of any shape, the `out` of operators; None where gradients may be required."""

    def __init__(self, x: Tensor, order: int) -> None:
        shape = 2, max(BLOCK_ELEMENTS, x.size(1))
        wide = accumulation_dtype(x.dtype, order)
        self.memory = None if torch.is_grad_enabled() else x.new_empty(shape, dtype=wide)
        self.views: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, which: int, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor | None:
        if self.memory is None:
            return None
        key = which, shape, dtype
        if key not in self.views:
            self.views[key] = self.memory[which].view(dtype or self.memory.dtype)[: prod(shape)].view(shape)
        return self.views[key]


def accumulation_dtype(dtype: torch.dtype, order: int) -> torch.dtype:
    """The dtype of powers: the eighth power of 1e-5 is zero in float32, the fourth is not."""
    return torch.float64 if dtype == torch.float64 or order > 4 else torch.float32


def output_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for float32, float16 and bfloat16."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def segment_cumulants_reference(x: Tensor, ptr: Tensor, order: int, root: bool = False) -> Tensor:
    """Cumulants 1..order of each segment and column, differentiable to any order.

    Args:
        x: [n_atoms, D] floating point.
        ptr: [n_systems + 1] int64, valid.
        order: 1..8.
        root: return sign(k) |k|^(1/m) in place of k_m.

    Returns:
        [n_systems, order, D] in `output_dtype(x.dtype)`; empty segments are 0.
    """
    if x.size(1) == 0 or ptr.size(0) == 1:
        return x.new_zeros(ptr.size(0) - 1, order, x.size(1), dtype=output_dtype(x.dtype))
    x = x.contiguous()  # else the order of summation, hence the last bit, would depend on the strides
    buffers, ids, parts = _Buffers(x, order), [], []
    for members, start, length in _groups(ptr, order * x.size(1)):
        shift, mean, sums = _sums(x, start, length, order, buffers)
        ids.append(members)
        parts.append(_finish(shift, mean, sums / max(1, length), output_dtype(x.dtype), root))
    return torch.cat(parts).index_select(0, torch.cat(ids).argsort().to(x.device))


def segment_gradient_reference(grad: Tensor, x: Tensor, ptr: Tensor, order: int, root: bool = False) -> Tensor:
    """The gradient of `segment_cumulants_reference` in closed form, a polynomial in the centred value.

    With M(t) the central moment generating function of a segment, 1 / M(t) = exp(-K(t)) = sum a_j t^j / j!,
    and d k_m / d x_i = (m / n) sum_j C(m - 1, j) a_{m-1-j} (x_i - mean)^j.

    Args:
        grad: [n_systems, order, D], the cotangent of the cumulants.
        x: as in the forward.
        ptr: as in the forward.
        order: as in the forward.
        root: as in the forward.

    Returns:
        [n_atoms, D] in x's dtype.
    """
    out = x.new_zeros(x.shape)
    if x.size(1) == 0:
        return out
    with torch.no_grad():
        buffers = _Buffers(x, order)
        for members, start, length in _groups(ptr, order * x.size(1)):
            if length:
                _gradient(out, grad[members.to(x.device)], x, start, length, root, buffers)
    return out


def cumulants_from_moments(moments: list[Tensor]) -> list[Tensor]:
    """Cumulants k_0 (unused), k_1 = 0, k_2, ... of a centred variable from its moments 1, 0, m_2, ...

    k_m = m_m - sum_{j=2}^{m-2} C(m - 1, j - 1) k_j m_{m-j} (the logarithm of the generating function).
    """
    cumulants = list(moments)
    for m in range(4, len(moments)):
        for j in range(2, m - 1):
            cumulants[m] = cumulants[m] - comb(m - 1, j - 1) * cumulants[j] * moments[m - j]
    return cumulants


def signed_root(cumulant: Tensor, m: int, tiny: float) -> Tensor:
    """sign(k) |k|^(1/m), with gradient 0 at k = 0 and wherever its slope would exceed 1 / tiny."""
    if m == 1:
        return cumulant
    steep = cumulant.detach().abs() <= tiny ** (m / (m - 1))
    smooth = torch.where(steep, 1.0, cumulant)
    flat = cumulant.detach()
    return torch.where(steep, flat.sign() * flat.abs().pow(1 / m), smooth.sign() * smooth.abs().pow(1 / m))


def _groups(ptr: Tensor, elements: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """(segment ids, first rows, length) on the host, for segments of one length whose results fit in a block."""
    ptr = ptr.cpu()
    lengths, ids = ptr.diff().sort(stable=True)
    kinds, sizes = torch.unique_consecutive(lengths, return_counts=True)
    for length, members in zip(kinds.tolist(), torch.split(ids, sizes.tolist()), strict=True):
        for part in torch.split(members, max(1, BLOCK_ELEMENTS // elements)):
            yield part, ptr[part], length


def _segments_per_block(x: Tensor, length: int) -> int:
    """The number of segments of a length that fit in a block."""
    return max(1, BLOCK_ELEMENTS // max(1, length * x.size(1)))


def _chunks(x: Tensor, start: Tensor, length: int, buffers: _Buffers) -> Iterator[tuple[Tensor, Tensor]]:
    """(row numbers [systems, rows], rows [systems, rows, D]) of the block, or of pieces of one long segment."""
    step = max(1, BLOCK_ELEMENTS // (start.size(0) * x.size(1)))
    for first in range(0, length, step):
        size = min(step, length - first)
        rows = (start[:, None] + torch.arange(first, first + size)).to(x.device)
        yield rows, _take(x, rows, int(start[0]) + first, int(start[-1]) + first, buffers)


def _take(x: Tensor, rows: Tensor, first: int, last: int, buffers: _Buffers) -> Tensor:
    systems, size = rows.shape
    if last - first == (systems - 1) * size:  # contiguous in memory: a view, no gather
        return torch.unflatten(x[first : last + size], 0, (systems, size))
    place = buffers(1, (systems * size, x.size(1)), x.dtype)
    return torch.unflatten(torch.index_select(x, 0, rows.flatten(), out=place), 0, (systems, size))


def _sums(x: Tensor, start: Tensor, length: int, order: int, buffers: _Buffers) -> list[Tensor]:
    """The results of `_block_sums` for all segments of a group."""
    blocks = [
        _block_sums(x, part, length, order, buffers) for part in torch.split(start, _segments_per_block(x, length))
    ]
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


def _block_sums(x: Tensor, start: Tensor, length: int, order: int, buffers: _Buffers) -> tuple[Tensor, Tensor, Tensor]:
    """First rows, rounded mean about them (0 for a constant), sums of powers about both [systems, order, D].

    The first row is detached: the sums are independent of it, so the derivatives are too.
    """
    wide = accumulation_dtype(x.dtype, order)
    if length == 0:
        zeros = x.new_zeros(start.size(0), x.size(1), dtype=wide)
        return zeros, zeros, zeros[:, None].expand(-1, order, -1)
    shift = x[start.to(x.device)].detach().to(wide)[:, None]

    def pieces() -> Iterator[Tensor]:
        return (torch.sub(rows, shift, out=buffers(0, rows.shape)) for _, rows in _chunks(x, start, length, buffers))

    fits = start.size(0) * length * x.size(1) <= BLOCK_ELEMENTS
    kept = list(pieces()) if fits else None  # one piece, still in cache for the second pass
    mean = (reduce(torch.add, (_row_sum(piece, length) for piece in kept or pieces())) / length).to(wide)
    centred = (torch.sub(piece, mean[:, None], out=buffers(0, piece.shape)) for piece in kept or pieces())
    return shift[:, 0], mean, reduce(torch.add, (_power_sums(piece, order, length, buffers) for piece in centred))


def _row_sum(rows: Tensor, length: int) -> Tensor:
    """[systems, D]; pieces of a long segment are summed in float64."""
    return rows.sum(1) if rows.size(1) == length else rows.sum(1).double()


def _power_sums(centred: Tensor, order: int, length: int, buffers: _Buffers) -> Tensor:
    """[systems, order, D]: sums over the rows of the first powers."""
    power, sums = centred, [_row_sum(centred, length)]
    for _ in range(1, order):
        power = torch.mul(power, centred, out=buffers(1, centred.shape))
        sums.append(_row_sum(power, length))
    return torch.stack(sums, 1)


def _recentre(raw: Tensor) -> list[Tensor]:
    """m_0 .. m_order about the exact mean, from moments 1, 2, ... [systems, order, D] about the rounded mean."""
    left = raw[:, 0]
    powers = [torch.ones_like(left), *raw.unbind(1)]
    moments = [powers[0], torch.zeros_like(left)]
    for m in range(2, len(powers)):
        moments.append(powers[m] - m * left * powers[m - 1])  # left^2 is below the rounding
    return moments


def _finish(shift: Tensor, mean: Tensor, raw: Tensor, dtype: torch.dtype, root: bool) -> Tensor:
    """Cumulants [systems, order, D] from moments about the rounded mean."""
    cumulants = [shift + mean + raw[:, 0], *cumulants_from_moments(_recentre(raw))[2:]]
    if root:
        tiny = torch.finfo(dtype).tiny
        cumulants = [signed_root(k, m, tiny) for m, k in enumerate(cumulants, start=1)]
    return torch.stack(cumulants, 1).to(dtype)


def _gradient(out: Tensor, grad: Tensor, x: Tensor, start: Tensor, length: int, root: bool, buffers: _Buffers) -> None:
    shift, mean, sums = _sums(x, start, length, grad.size(1), buffers)
    cumulants = cumulants_from_moments(_recentre(sums / length))
    grad = grad.to(mean.dtype)
    if root:
        grad = through_root(grad, cumulants, torch.finfo(output_dtype(x.dtype)).tiny)
    parts = (start, shift, mean, *gradient_coefficients(grad, cumulants, length))
    for block in zip(*(torch.split(part, _segments_per_block(x, length)) for part in parts), strict=True):
        _block_gradient(out, x, length, buffers, *block)


def _block_gradient(
    out: Tensor,
    x: Tensor,
    length: int,
    buffers: _Buffers,
    start: Tensor,
    shift: Tensor,
    mean: Tensor,
    *polynomial: Tensor,
) -> None:
    coefficients = [c[:, None] for c in polynomial]
    for rows, values in _chunks(x, start, length, buffers):
        place = buffers(0, values.shape)
        centred = torch.sub(torch.sub(values, shift[:, None], out=place), mean[:, None], out=place)
        value = coefficients[-1].expand_as(centred)
        for coefficient in coefficients[-2::-1]:
            value = torch.addcmul(coefficient, value, centred, out=buffers(1, centred.shape))
        out.index_copy_(0, rows.flatten(), value.flatten(0, 1).to(out.dtype))


def through_root(grad: Tensor, cumulants: list[Tensor], tiny: float) -> Tensor:
    """The cotangent of k_m from that of sign(k_m) |k_m|^(1/m), with the slope of `signed_root`."""
    parts = [grad[:, 0]]
    for m in range(2, grad.size(1) + 1):
        size = cumulants[m].abs()
        slope = torch.where(size <= tiny ** (m / (m - 1)), 0.0, size.pow(1 / m - 1) / m)
        parts.append(grad[:, m - 1] * slope)
    return torch.stack(parts, 1)


def gradient_coefficients(grad: Tensor, cumulants: list[Tensor], length: int | Tensor) -> list[Tensor]:
    """Coefficients c_0 .. c_{order-1} of d^j in the gradient with respect to a row of centred value d."""
    order = grad.size(1)
    inverse: list[Tensor] = [torch.ones_like(cumulants[1])]
    for k in range(1, order):
        total = torch.zeros_like(inverse[0])
        for j in range(2, k + 1):
            total = total - comb(k - 1, j - 1) * cumulants[j] * inverse[k - j]
        inverse.append(total)

    def term(m: int, j: int) -> Tensor:
        return m * comb(m - 1, j) / length * grad[:, m - 1] * inverse[m - 1 - j]

    return [reduce(torch.add, (term(m, j) for m in range(j + 1, order + 1))) for j in range(order)]
