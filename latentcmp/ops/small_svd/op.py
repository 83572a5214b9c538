"""The torch.library operator: schema, fake kernel and the choice of the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp.ops.small_svd import native
from latentcmp.ops.small_svd.reference import Svd, empty_svd, small_svd_reference

BACKENDS = {"cpu": ("reference",), "cuda": ("cuda", "reference")}
"""By device type, the preferred one first."""

torch.library.define("latentcmp::small_svd", "(Tensor rows, str backend) -> (Tensor, Tensor, Tensor)")


@torch.library.impl("latentcmp::small_svd", ("CPU", "CUDA"))
@torch.no_grad()
def _small_svd(rows: Tensor, backend: str) -> Svd:
    if backend == "reference":
        return small_svd_reference(rows)
    if native.fits(rows):
        return native.small_svd_cuda(rows)
    u, s, vh = small_svd_reference(rows)
    return u.contiguous(), s.contiguous(), vh.contiguous()  # the strides of the kernel, which the fake kernel gives


def _fake(rows: Tensor, backend: str) -> Svd:
    return small_svd_reference(rows) if backend == "reference" else empty_svd(rows)


torch.library.register_fake("latentcmp::small_svd", _fake)
