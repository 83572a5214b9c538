"""Accumulators of the parts of joint statistics, by method and device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentcmp.statistics.blocked_accumulators import (
    BlockedAccumulator,
    BlockedFactorAccumulator,
    BlockedGramAccumulator,
)
from latentcmp.statistics.joint_moments import Method
from latentcmp.statistics.part_accumulators import FactorAccumulator, GramAccumulator, PartAccumulator


def empty_parts(n_parts: int, method: Method, columns: Sequence[int], device: torch.device) -> list[PartAccumulator]:
    """Return an empty accumulator for each part: by blocks on a CPU, in place on other devices."""
    if device.type == "cpu":
        return list(blocked_parts(n_parts, method, columns))
    kind = GramAccumulator if method == "gram" else FactorAccumulator
    return [kind(total, columns) for total in _totals(n_parts, columns, device)]


def blocked_parts(n_parts: int, method: Method, columns: Sequence[int]) -> list[BlockedAccumulator]:
    """Return an empty accumulator on the CPU for each part."""
    kind = BlockedGramAccumulator if method == "gram" else BlockedFactorAccumulator
    return [kind(total, columns) for total in _totals(n_parts, columns, torch.device("cpu"))]


def _totals(n_parts: int, columns: Sequence[int], device: torch.device) -> Tensor:
    """One tensor for the totals of all parts: products depend on its alignment in their last bits."""
    return torch.zeros(n_parts, sum(columns), sum(columns), dtype=torch.float64, device=device)
