"""What the tests of the losses share: matrices, kinds of losses, gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentcmp.nn import CKALoss, ReconstructionLoss

from .loss_rank import D, N, T, related, rows

__all__ = ["VARIANTS", "D", "N", "T", "gradients", "related", "rows", "variants"]

VARIANTS: dict[str, Callable[[], torch.nn.Module]] = {
    "linear": lambda: ReconstructionLoss(alpha=1e-2),
    "map held": lambda: ReconstructionLoss(alpha=1e-2, detach="map"),
    "local": lambda: ReconstructionLoss(alpha=1e-2, n_local_points=8),
    "running": lambda: ReconstructionLoss(alpha=1e-2, momentum=0.1, widths=(D, T)),
    "debiased CKA": CKALoss,
    "CKA": lambda: CKALoss(debiased=False),
}
variants = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


def gradients(loss: torch.nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = loss(x, y)
    return value, *torch.autograd.grad(value, (x, y))
