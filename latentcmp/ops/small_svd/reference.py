"""Singular value decompositions in PyTorch: the oracle of the kernel, and the backend on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

Svd = tuple[Tensor, Tensor, Tensor]


def small_svd_reference(rows: Tensor) -> Svd:
    """As `small_svd`."""
    u, s, vh = torch.linalg.svd(rows, full_matrices=False)
    return u, s, vh


def empty_svd(rows: Tensor) -> Svd:
    """Uninitialised tensors of the shapes of a result."""
    b, n, width = rows.shape
    rank = min(n, width)
    return rows.new_empty((b, n, rank)), rows.new_empty((b, rank)), rows.new_empty((b, rank, width))
