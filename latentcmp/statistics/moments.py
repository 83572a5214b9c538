"""Cumulants of systems whose rows arrive in pieces, or lie on several devices."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.types import Metadata, StateDict
from latentcmp.errors import InputError
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.ops.segment_cumulants.reference import cumulants_from_moments, output_dtype, signed_root
from latentcmp.statistics.storage import METADATA, Expected, check_metadata, check_tensors, tensors_of

KIND = "moments"


class Moments:
    """Running counts, means and central power sums of systems, in float64.

    Pieces merge exactly (P. Pebay, SAND2008-6212): however rows are cut, `compute` gives the cumulants of all of them.
    The state keeps its addresses, so that updates can be captured in a CUDA graph.

    Args:
        n_systems: number of systems.
        columns: D of the rows.
        order: highest cumulant, 1 to 8.
        device: where the rows are (default: CPU).

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self, n_systems: int, columns: int, order: int = 4, *, device: torch.device | str | None = None
    ) -> None:
        if n_systems < 0 or columns < 0 or not 1 <= order <= 8:
            raise InputError(
                f"n_systems and columns must be at least 0 and order 1 to 8, got {n_systems}, {columns} and {order}"
            )
        self.order = order
        self.mean = torch.zeros(n_systems, columns, dtype=torch.float64, device=device)
        self.sums = torch.zeros(order + 1, n_systems, columns, dtype=torch.float64, device=device)

    @property
    def counts(self) -> Tensor:
        """Numbers of rows of each system [n_systems], float64 (0 where there are no columns)."""
        return self.sums[0, :, :1].sum(1)

    def update(self, x: Tensor, ptr: Tensor, systems: Tensor | None = None) -> Moments:
        """Add one piece: rows ptr[s]:ptr[s + 1] of `x` belong to system s, or to `systems[s]`.

        Args:
            x: rows [n_atoms, D], floating point.
            ptr: offsets [n + 1], int64, with n = n_systems where `systems` is None.
            systems: the system that each segment of this piece continues [n], int64, distinct.

        Returns:
            This object.

        Raises:
            InputError: shapes do not fit the state, or `segment_cumulants` raises it.
        """
        expected = self.mean.size(0) if systems is None else systems.size(0)
        if x.dim() != 2 or x.size(1) != self.mean.size(1) or ptr.size(0) != expected + 1:
            raise InputError(
                f"x {tuple(x.shape)} and ptr {tuple(ptr.shape)} do not fit {expected} segments of "
                f"{self.mean.size(1)} columns"
            )
        mean, sums = _sums(x, ptr, self.order)
        if systems is None:
            self._merge(mean, sums)
        else:
            joined = _merged(self.mean[systems], self.sums[:, systems], mean, sums)
            self.mean.index_copy_(0, systems, joined[0])
            self.sums.index_copy_(1, systems, joined[1])
        return self

    def merge(self, other: Moments) -> Moments:
        """Add the rows of another state of the same shape, from any device; returns this object."""
        if other.sums.shape != self.sums.shape:
            raise InputError(f"states of shape {tuple(self.sums.shape)} and {tuple(other.sums.shape)} differ")
        self._merge(other.mean.to(self.mean.device), other.sums.to(self.mean.device))
        return self

    def compute(self, *, root: bool = False) -> Tensor:
        """Return the cumulants [n_systems, order, D] of all rows, float64; with `root` as `segment_cumulants`."""
        moments = list((self.sums / self.sums[0].clamp(min=1)).unbind(0))
        cumulants = [self.mean, *cumulants_from_moments(moments)[2:]]
        if root:
            tiny = torch.finfo(torch.float64).tiny
            cumulants = [signed_root(k, m, tiny) for m, k in enumerate(cumulants, start=1)]
        return torch.stack(cumulants, 1)

    def reset(self) -> None:
        """Remove all rows."""
        self.mean.zero_()
        self.sums.zero_()

    def state_dict(self) -> StateDict:
        """Return copies of all tensors, and the arguments and kind under "metadata"."""
        return {"mean": self.mean.clone(), "sums": self.sums.clone(), METADATA: self._metadata()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all rows by those of a `state_dict`, from any device, in place.

        Raises:
            InputError: the state is of another kind, other numbers or another order, or its tensors do not fit.
        """
        check_metadata(state, self._metadata())
        held = {"mean": self.mean, "sums": self.sums}
        expected: Expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in held.items()}
        check_tensors("the state", tensors_of(state), expected)
        for name, tensor in held.items():
            tensor.copy_(state[name])

    def _metadata(self) -> Metadata:
        n_systems, columns = self.mean.shape
        return {"kind": KIND, "n_systems": n_systems, "columns": columns, "order": self.order}

    def _merge(self, mean: Tensor, sums: Tensor) -> None:
        joined = _merged(self.mean, self.sums, mean, sums)
        self.mean.copy_(joined[0])
        self.sums.copy_(joined[1])


@torch.no_grad()
def _sums(x: Tensor, ptr: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Means [n, D] and central power sums of orders 0 to `order` [order + 1, n, D] of one piece, in float64."""
    if output_dtype(x.dtype) != torch.float64:  # lest cumulants are rounded before the merge
        x = x.double()
    cumulants = segment_cumulants(x, ptr, order)
    moments = [torch.ones_like(cumulants[:, 0]), torch.zeros_like(cumulants[:, 0])]
    for m in range(2, order + 1):
        terms = (comb(m - 1, j - 1) * cumulants[:, j - 1] * moments[m - j] for j in range(2, m - 1))
        moments.append(sum(terms, cumulants[:, m - 1]))
    return cumulants[:, 0], torch.stack(moments) * ptr.diff()[:, None]


def _merged(mean: Tensor, sums: Tensor, other_mean: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    gap = other_mean - mean
    step = gap * other[0] / (sums[0] + other[0]).clamp(min=1)
    return mean + step, _shift(sums, -step) + _shift(other, gap - step)


def _shift(sums: Tensor, by: Tensor) -> Tensor:
    """Power sums about a point lower by `by`: the binomial theorem as a triangle of additions."""
    rows = list(sums.unbind(0))
    for i in range(1, len(rows)):
        for p in range(len(rows) - 1, i - 1, -1):
            rows[p] = rows[p] + by * rows[p - 1]
    if len(rows) > 1:
        rows[1] = torch.zeros_like(rows[1])  # about the mean, up to rounding
    return torch.stack(rows)
