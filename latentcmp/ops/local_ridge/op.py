"""The torch.library operator: schema, fake kernel and the choice of the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp.ops.local_ridge import native
from latentcmp.ops.local_ridge.reference import local_ridge_reference

BACKENDS = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "reference")}
"""By device type, the preferred one first."""

torch.library.define(
    "latentcmp::local_ridge",
    "(Tensor x, Tensor query, Tensor rows, int n_first, Tensor[] y_train, Tensor[] y_test, Tensor strengths, "
    "str backend) -> Tensor",
)

# Not differentiable: results are constants, instead of a warning in the backward pass.
torch.library.impl("latentcmp::local_ridge", "Autograd", torch.library.fallthrough_kernel)

KERNELS = {"cpu": native.local_ridge_cpu, "cuda": native.local_ridge_cuda, "reference": local_ridge_reference}


@torch.library.impl("latentcmp::local_ridge", ("CPU", "CUDA"))
@torch.no_grad()
def _local_ridge(
    x: Tensor,
    query: Tensor,
    rows: Tensor,
    n_first: int,
    y_train: list[Tensor],
    y_test: list[Tensor],
    strengths: Tensor,
    backend: str,
) -> Tensor:
    return KERNELS[backend](x, query, rows, n_first, y_train, y_test, strengths)


def _fake(
    x: Tensor,
    query: Tensor,
    rows: Tensor,
    n_first: int,
    y_train: list[Tensor],
    y_test: list[Tensor],
    strengths: Tensor,
    backend: str,
) -> Tensor:
    return x.new_empty((len(y_train), rows.shape[0]))


torch.library.register_fake("latentcmp::local_ridge", _fake)
