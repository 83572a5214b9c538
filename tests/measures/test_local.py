"""Neighbours and batches of the local maps."""

import numpy as np
import torch

from latentcmp.measures.local import local_errors
from latentcmp.measures.nearest import nearest


def rows(n: int, width: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width)))


def test_nearest_are_those_of_a_stable_sort_with_ties_in_row_order() -> None:
    grid = torch.from_numpy(np.random.default_rng(0).integers(0, 3, size=(60, 2)).astype(float))
    query = torch.from_numpy(np.random.default_rng(1).integers(0, 3, size=(25, 2)).astype(float))
    distance = ((query[:, None] - grid) ** 2).sum(-1).numpy()
    for k in (1, 5, 17, 60):
        expected = np.argsort(distance, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(nearest(grid, query, k, batch_size=7).numpy(), expected)


def test_batch_size_and_threads_do_not_change_a_row() -> None:
    x_train, x_test, y_train, y_test = rows(90, 8, 0), rows(23, 8, 1), rows(90, 5, 2), rows(23, 5, 3)
    targets = [(y_train, y_test), (x_train, x_test)]
    before = torch.get_num_threads()
    expected = local_errors(x_train, x_test, targets, 11, batch_size=1)
    try:
        for threads, batch_size in ((1, 7), (2, 7), (2, 100), (1, None)):
            torch.set_num_threads(threads)
            found = local_errors(x_train, x_test, targets, 11, batch_size=batch_size)
            assert torch.get_num_threads() == threads
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    finally:
        torch.set_num_threads(before)
