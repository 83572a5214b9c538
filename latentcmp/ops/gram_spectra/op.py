"""The torch.library operator: schema, fake kernel and the choice of the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcmp.ops.gram_spectra import native
from latentcmp.ops.gram_spectra.reference import empty_gram_spectra, gram_spectra_reference

BACKENDS = {"cpu": ("reference",), "cuda": ("cuda", "reference")}
"""By device type, the preferred one first."""

torch.library.define(
    "latentcmp::gram_spectra",
    "(Tensor x, Tensor rows, int n_first, str backend) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("latentcmp::gram_spectra", ("CPU", "CUDA"))
@torch.no_grad()
def _gram_spectra(x: Tensor, rows: Tensor, n_first: int, backend: str) -> tuple[Tensor, ...]:
    if backend == "cuda" and native.fits(x.device, rows.shape[1]):
        return native.gram_spectra_cuda(x, rows, n_first).tensors()
    return gram_spectra_reference(x, rows, n_first).tensors()


def _fake(x: Tensor, rows: Tensor, n_first: int, backend: str) -> tuple[Tensor, ...]:
    return empty_gram_spectra(x, rows, n_first).tensors()


torch.library.register_fake("latentcmp::gram_spectra", _fake)
