"""The losses on features of real models: their values, and gradients down to the weights."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from sklearn.linear_model import Ridge
from skmatter.preprocessing import StandardFlexibleScaler

from latentcmp.features.data import Features
from latentcmp.models import load
from latentcmp.nn import CKALoss, CumulantPooling, ReconstructionLoss

FEW = slice(0, 12)  # crystals of 8 atoms: more atoms than the 64 columns


def scaled(matrix: torch.Tensor) -> np.ndarray:
    return StandardFlexibleScaler(column_wise=False).fit_transform(matrix.double().numpy())


def test_the_loss_between_two_models_is_what_ridge_regression_leaves(
    chgnet_features: Features, sevennet_features: Features
) -> None:
    source, target = scaled(chgnet_features.values), scaled(sevennet_features.values)
    fit = Ridge(alpha=1e-6 * len(source), fit_intercept=False, solver="svd").fit(source, target)
    want = np.sqrt(np.square(target - fit.predict(source)).sum(1).mean())
    found = ReconstructionLoss()(chgnet_features.values, sevennet_features.values)
    assert found.item() == pytest.approx(want, rel=1e-5)  # it comes back in float32


@pytest.mark.parametrize("alpha", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_of_real_models_give_finite_gradients(
    chgnet_features: Features, sevennet_features: Features, alpha: float, dtype: torch.dtype
) -> None:
    losses: list[tuple[torch.nn.Module, torch.Tensor | None]] = [
        (ReconstructionLoss(alpha=alpha), None),
        (ReconstructionLoss(alpha=alpha, n_local_points=16), None),
        (ReconstructionLoss(alpha=alpha, momentum=0.1, widths=(64, 64)), None),
        (ReconstructionLoss(alpha=alpha, pooling=CumulantPooling(order=4, root=True)), chgnet_features.ptr),
        (CKALoss(), None),
    ]
    for loss, segments in losses:
        x = chgnet_features.values.to(dtype, copy=True).requires_grad_()
        loss(x, sevennet_features.values, segments).backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        assert torch.count_nonzero(x.grad)


@pytest.mark.parametrize("make", [lambda: ReconstructionLoss(alpha=1e-3), CKALoss])
def test_a_real_model_learns_to_rebuild_the_features_of_another(
    make: Callable[[], torch.nn.Module], structures: list[Atoms], sevennet_features: Features
) -> None:
    adapter = load("chgnet-0.3.0")
    module, batch = adapter.module, [adapter.graph(atoms) for atoms in structures[FEW]]
    teacher = sevennet_features.values[: sevennet_features.ptr[FEW.stop]]
    kept: list[torch.Tensor] = []
    layer = module.get_submodule(adapter.point("last").path)
    layer.register_forward_hook(lambda _, inputs, output: kept.append(output))
    optimiser, loss, values = torch.optim.Adam(module.parameters(), 1e-3), make(), []
    for _ in range(3):
        module(batch, task="e")
        value = loss(kept.pop(), teacher)
        optimiser.zero_grad()
        value.backward()
        assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
        optimiser.step()
        values.append(value.item())
    assert all(after < before for before, after in pairwise(values))
