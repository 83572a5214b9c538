"""The torch.library operator: schema, fake kernel and the choice of the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp.ops.cutoff_losses import native
from latentcmp.ops.cutoff_losses.reference import FoldFit, cutoff_losses_reference

BACKENDS = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "reference")}
"""By device type, the preferred one first."""
_KERNELS = {
    "cpu": native.cutoff_losses_cpu,
    "cuda": native.cutoff_losses_cuda,
    "reference": cutoff_losses_reference,
}

torch.library.define(
    "latentcmp::cutoff_losses",
    "(Tensor y, Tensor first_rows, Tensor first_directions, Tensor first_projected, Tensor first_kept, "
    "Tensor second_rows, Tensor second_directions, Tensor second_projected, Tensor second_kept, str backend) -> Tensor",
)


@torch.library.impl("latentcmp::cutoff_losses", ("CPU", "CUDA"))
@torch.no_grad()
def _cutoff_losses(
    y: Tensor,
    first_rows: Tensor,
    first_directions: Tensor,
    first_projected: Tensor,
    first_kept: Tensor,
    second_rows: Tensor,
    second_directions: Tensor,
    second_projected: Tensor,
    second_kept: Tensor,
    backend: str,
) -> Tensor:
    first = FoldFit(first_rows, first_directions, first_projected, first_kept)
    second = FoldFit(second_rows, second_directions, second_projected, second_kept)
    return _KERNELS[backend](y, first, second)


def _fake(
    y: Tensor,
    first_rows: Tensor,
    first_directions: Tensor,
    first_projected: Tensor,
    first_kept: Tensor,
    second_rows: Tensor,
    second_directions: Tensor,
    second_projected: Tensor,
    second_kept: Tensor,
    backend: str,
) -> Tensor:
    return y.new_empty(first_kept.shape)


torch.library.register_fake("latentcmp::cutoff_losses", _fake)
