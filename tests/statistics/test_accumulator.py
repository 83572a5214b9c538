"""Accumulation of blocks of features on a device, without host synchronisation."""

import numpy as np
import pytest
import torch

from latentcmp.statistics.accumulator import RowAccumulator, RowLabels, SampleSizes
from latentcmp.statistics.row_keys import row_keys

WIDTHS = {"a": 4, "b": 7}


def labels(block: int, n: int) -> RowLabels:
    rows = np.arange(block * n, (block + 1) * n)
    return RowLabels((rows % 3).astype(np.int8), row_keys([f"s{block}"], [n]), rows, np.full(n, block))


@pytest.mark.parametrize("method", ["qr", "gram"])
def test_accumulation_on_a_device_reads_no_value_back(method: str) -> None:
    rows = RowAccumulator(WIDTHS, 8, SampleSizes(train=30, test=20), method)  # type: ignore[arg-type]
    for block in range(8):
        features = {name: torch.empty(9, width, device="meta") for name, width in WIDTHS.items()}
        rows.update(block, features, labels(block, 9))
    assert not rows.tree.total().is_rows
    assert rows.compute().parts.is_meta
    assert rows.n_rows == {"train": 48, "test": 24}
    kept = rows.sampled("train")
    assert {name: tuple(values.shape) for name, values in kept.values.items()} == {"a": (30, 4), "b": (30, 7)}
    assert len(kept.owners) == 30
