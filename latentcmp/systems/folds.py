"""Training rows, test rows and folds, as functions of the number of rows alone.

The positions are those of scikit-learn's `KFold` and `train_test_split` at the seed that scikit-matter
fixes, so that errors agree with scikit-matter's number for number.
"""

from enum import IntEnum

import numpy as np

from latentcmp.errors import InputError

SEED = 0x5F3759DF
Rows = np.ndarray  # int64 positions


def two_folds(n: int) -> tuple[Rows, Rows]:
    """Return sorted positions of fold 1 (floor(n/2) rows) and fold 2: `KFold(2, shuffle=True, random_state=SEED)`."""
    order = np.arange(n)
    np.random.RandomState(SEED).shuffle(order)
    second = np.zeros(n, dtype=bool)
    second[order[: (n + 1) // 2]] = True
    return np.flatnonzero(~second), np.flatnonzero(second)


def halves(n: int) -> tuple[Rows, Rows]:
    """Return train and test positions of scikit-learn's shuffled half-and-half `train_test_split` at SEED."""
    order = np.random.RandomState(SEED).permutation(n)
    n_test = (n + 1) // 2
    return order[n_test : n_test + n // 2], order[:n_test]


def resolve_split(n: int, train_idx: object = None, test_idx: object = None) -> tuple[Rows, Rows]:
    """Return train and test positions; one that is not given is the complement, and if neither is, `halves`."""
    if train_idx is None and test_idx is None:
        return halves(n)
    if train_idx is None:
        test = checked_rows("test_idx", test_idx, n)
        return np.setdiff1d(np.arange(n), test), test
    train = checked_rows("train_idx", train_idx, n)
    if test_idx is None:
        return train, np.setdiff1d(np.arange(n), train)
    return train, checked_rows("test_idx", test_idx, n)


def checked_rows(name: str, rows: object, n: int) -> Rows:
    """Return row positions in 0..n-1 as an int64 array, from positions or a boolean mask of n rows.

    Raises:
        InputError: the array is neither, or a position is outside -n..n-1.
    """
    array = np.asarray(rows.detach().cpu() if hasattr(rows, "detach") else rows)
    if array.dtype == bool and array.shape == (n,):
        return np.flatnonzero(array)
    if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise InputError(
            f"{name} must be a 1-D array of row numbers or a boolean mask of {n} rows, "
            f"got shape {array.shape}, dtype {array.dtype}"
        )
    if array.size and (array.min() < -n or array.max() >= n):
        raise InputError(f"{name} holds row {array.max() if array.max() >= n else array.min()}, but there are {n} rows")
    return array.astype(np.int64) % n if n else array.astype(np.int64)


class RowPart(IntEnum):
    """The part of a row: one of the two folds of the training rows, or test."""

    FOLD_1 = 0
    FOLD_2 = 1
    TEST = 2


FOLDS = (RowPart.FOLD_1, RowPart.FOLD_2)
"""The parts of training rows."""


def parts_of(test: np.ndarray) -> np.ndarray:
    """Return the `RowPart` of every row (int64) from a mask of the test rows; training rows go to `two_folds`."""
    part = np.full(len(test), RowPart.TEST, dtype=np.int64)
    train = np.flatnonzero(~test)
    for fold, rows in zip(FOLDS, two_folds(len(train)), strict=True):
        part[train[rows]] = fold
    return part
