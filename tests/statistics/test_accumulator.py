"""Blocks of features gathered on a device, which is never waited for."""

import numpy as np
import pytest
import torch

from latentcmp.statistics.accumulator import Labels, Limits, RowAccumulator
from latentcmp.statistics.row_sample import row_keys

WIDTHS = {"a": 4, "b": 7}


def labels(block: int, n: int) -> Labels:
    rows = np.arange(block * n, (block + 1) * n)
    return Labels((rows % 3).astype(np.int8), row_keys([f"s{block}"], [n]), rows, np.full(n, block))


@pytest.mark.parametrize("method", ["qr", "gram"])
def test_gathering_on_a_device_reads_no_value_back(method: str) -> None:
    gathered = RowAccumulator(WIDTHS, 8, Limits(train=30, test=20), method)  # type: ignore[arg-type]
    for block in range(8):
        features = {name: torch.empty(9, width, device="meta") for name, width in WIDTHS.items()}
        gathered.add(block, features, labels(block, 9))
    whole = gathered.tree.total()
    assert not whole.is_rows
    assert whole.joint().parts.is_meta
    assert gathered.n_rows.tolist() == [48, 24]
    kept = gathered.sampled(0)
    assert {name: tuple(rows.shape) for name, rows in kept.values.items()} == {"a": (30, 4), "b": (30, 7)}
    assert len(kept.owners) == 30
