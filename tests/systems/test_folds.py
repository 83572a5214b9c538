"""Positions of folds and halves against scikit-learn's."""

import numpy as np
import pytest

from latentcmp.systems.folds import SEED, halves, two_folds

model_selection = pytest.importorskip("sklearn.model_selection")


@pytest.mark.parametrize("n", [2, 3, 64, 101, 5000])
def test_positions_are_those_of_scikit_learn(n: int) -> None:
    first, second = next(model_selection.KFold(2, shuffle=True, random_state=SEED).split(np.zeros(n)))
    for found, expected in zip(two_folds(n), (first, second), strict=True):
        np.testing.assert_array_equal(found, expected)
    train, test = model_selection.train_test_split(np.arange(n), test_size=0.5, train_size=0.5, random_state=SEED)
    for found, expected in zip(halves(n), (train, test), strict=True):
        np.testing.assert_array_equal(found, expected)
