"""The torch.library operator: schema, fake kernel and the choice of the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp.ops.centred_rows import native
from latentcmp.ops.centred_rows.reference import centred_rows_reference

BACKENDS = {"cpu": ("cpu", "reference"), "cuda": ("reference",)}
"""By device type, the preferred one first."""

torch.library.define(
    "latentcmp::centred_rows",
    "(Tensor x, Tensor rows, Tensor centre, Tensor(a!) out, Tensor(b!) squares, str backend) -> ()",
)

# Not differentiable: results are constants, instead of a warning in the backward pass.
torch.library.impl("latentcmp::centred_rows", "Autograd", torch.library.fallthrough_kernel)


@torch.library.impl("latentcmp::centred_rows", ("CPU", "CUDA"))
def _centred_rows(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor, backend: str) -> None:
    if backend == "cpu" and x.dtype in native.DTYPES:
        native.centred_rows_cpu(x, rows, centre, out, squares)
        return
    with torch.no_grad():
        centred_rows_reference(x, rows, centre, out, squares)


def _fake(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor, backend: str) -> None:
    return None


torch.library.register_fake("latentcmp::centred_rows", _fake)
