"""What the tests of the losses share: matrices, kinds of losses, gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentcmp.nn import CKALoss, ReconstructionLoss

N, D, T = 40, 6, 5
VARIANTS: dict[str, Callable[[], torch.nn.Module]] = {
    "linear": lambda: ReconstructionLoss(alpha=1e-2),
    "map held": lambda: ReconstructionLoss(alpha=1e-2, detach="map"),
    "local": lambda: ReconstructionLoss(alpha=1e-2, n_local_points=8),
    "running": lambda: ReconstructionLoss(alpha=1e-2, momentum=0.1, widths=(D, T)),
    "debiased CKA": CKALoss,
    "CKA": lambda: CKALoss(debiased=False),
}
variants = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


def rows(n: int = N, width: int = D, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Correlated columns with a mean."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return (torch.randn(n, width, generator=generator, dtype=torch.float64) @ mixing + 3).to(dtype)


def related(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A source [n, D] and a target [n, T] that depends on it in a curve."""
    x = rows(n, D, seed)
    return x, torch.tanh(x[:, :T] / 4) + 0.1 * rows(n, T, seed + 1)


def gradients(loss: torch.nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = loss(x, y)
    return value, *torch.autograd.grad(value, (x, y))
