"""What a step does with activations: on a device whose values cannot be read."""

import numpy as np
import pytest
import torch

from latentcmp.hooks.points import HookPoint
from latentcmp.monitor.layer import Layer, Marks
from latentcmp.monitor.observation import observe
from latentcmp.statistics.joint_moments import Method


@pytest.mark.parametrize("method", ["gram", "qr"])
@pytest.mark.parametrize("local", [False, True])
def test_an_observation_reads_no_value(method: Method, local: bool) -> None:
    """Tensors on "meta" have no values: reading one, or the number of rows that a mask selects, raises."""
    fold = np.arange(400) % 5
    reference, values = torch.empty(400, 8, device="meta"), [torch.empty(200, 9, device="meta") for _ in range(2)]
    layer = Layer(HookPoint("layer", "1"), [np.arange(400)], 0, fold, reference)
    layer.marks["elements"] = Marks(torch.zeros(400, dtype=torch.int64, device="meta"), ["H"], torch.ones(1))
    seen = observe(layer, values, "invariant", method, local)
    moments = seen.statistics.compute()
    assert moments.parts.device.type == "meta"
    assert moments.parts.shape == (5, 20, 20)  # a column of ones, 8 + 9 columns and the squares of two matrices
    assert seen.rows is not None
    assert seen.rows.shape == (400, 9)
    with pytest.raises((NotImplementedError, RuntimeError)):
        bool(torch.isfinite(seen.rows).all())
