"""Accumulation of blocks of features on a device, without host synchronisation."""

import numpy as np
import pytest
import torch

from latentcmp.statistics.accumulator import RowAccumulator, RowLabels, SampleSizes
from latentcmp.statistics.row_keys import row_keys

WIDTHS = {"a": 4, "b": 7}


def labels(block: int, n: int) -> RowLabels:
    rows, owner = np.arange(block * n, (block + 1) * n), np.full(n, block)
    return RowLabels(rows % 3, row_keys([f"s{block}"], [n]), rows, owner, owner // 2, rows % 4 + 1)


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
    assert {len(values) for values in (*kept.labels.values(), kept.keys)} == {30}


@pytest.mark.parametrize("method", ["qr", "gram"])
def test_rows_of_folds_on_a_device_are_one_sample(method: str) -> None:
    rows = RowAccumulator(WIDTHS, 8, SampleSizes(train=30, test=40), method, 3)  # type: ignore[arg-type]
    for block in range(8):
        features = {name: torch.empty(9, width, device="meta") for name, width in WIDTHS.items()}
        rows.update(block, features, labels(block, 9))
    assert rows.compute().parts.is_meta
    assert rows.n_rows == {"all": 72}
    kept = rows.sampled("all")
    assert len(kept.values["a"]) == 40  # the larger of the two sizes
    np.testing.assert_array_equal(kept.labels["part"], kept.labels["row"] % 3)
    np.testing.assert_array_equal(kept.labels["group"], kept.labels["owner"] // 2)
    np.testing.assert_array_equal(kept.labels["element"], kept.labels["row"] % 4 + 1)
    assert not kept.complete
