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


@torch.library.impl("latentcmp::centred_rows", ("CPU", "CUDA"))
@torch.no_grad()
def _centred_rows(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor, backend: str) -> None:
    use_kernel = backend == "cpu" and x.dtype in native.DTYPES
    kernel = native.centred_rows_cpu if use_kernel else centred_rows_reference
    kernel(x, rows, centre, out, squares)


def _fake(x: Tensor, rows: Tensor, centre: Tensor, out: Tensor, squares: Tensor, backend: str) -> None:
    return None


torch.library.register_fake("latentcmp::centred_rows", _fake)
