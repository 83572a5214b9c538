"""The torch.library operator: schema, fake kernel and the choice of the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp.ops.cutoff_losses import native
from latentcmp.ops.cutoff_losses.reference import FoldFit, cutoff_losses_reference

BACKENDS = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "reference")}
"""By device type, the preferred one first."""

torch.library.define(
    "latentcmp::cutoff_losses",
    "(Tensor y, Tensor first_rows, Tensor first_directions, Tensor first_projected, Tensor first_kept, "
    "Tensor second_rows, Tensor second_directions, Tensor second_projected, Tensor second_kept, str backend) -> Tensor",
)

# Not differentiable: results are constants, instead of a warning in the backward pass.
torch.library.impl("latentcmp::cutoff_losses", "Autograd", torch.library.fallthrough_kernel)


@torch.library.impl("latentcmp::cutoff_losses", ("CPU", "CUDA"))
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
    if backend == "reference":
        with torch.no_grad():
            return cutoff_losses_reference(y, first, second)
    kernel = native.cutoff_losses_cpu if backend == "cpu" else native.cutoff_losses_cuda
    return kernel(y, first, second)


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
