"""Folds of groups by their names."""

import subprocess
import sys
from hashlib import blake2b

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.systems.group_folds import GroupFolds, block_of_groups, fold_of_labels, leave_one_out

LABELS = [f"g{row // 3}" for row in range(300)]


def test_groups_are_whole_and_blocks_are_even() -> None:
    block = block_of_groups(LABELS, 20)
    assert all(len(set(block[row : row + 3])) == 1 for row in range(0, 300, 3))
    assert np.bincount(block, minlength=20).tolist() == [15] * 20


def test_blocks_depend_on_names_alone() -> None:
    block, order = block_of_groups(LABELS, 20), np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(block_of_groups([LABELS[row] for row in order], 20), block[order])
    assert (block_of_groups(LABELS, 20, seed=1) != block).any()
    script = (
        "from latentcmp.systems.group_folds import block_of_groups\n"
        "print(block_of_groups([f'g{row // 3}' for row in range(300)], 20).tolist())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONHASHSEED": "5", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert other.stdout.strip() == str(block.tolist())


def test_blocks_are_within_folds() -> None:
    folds = GroupFolds.of(100)
    assert folds.blocks == [tuple(range(4 * fold, 4 * fold + 4)) for fold in range(5)]
    assert GroupFolds.of(7).fold_of_block == (0, 0, 1, 2, 2, 3, 4)
    assert GroupFolds.of(3).blocks == [(0,), (1,), (2,)]
    assert GroupFolds.of(100, n_blocks=5).n_blocks == 5
    with pytest.raises(InputError, match="at least 3 groups of rows, one to test and two to train on, got 2"):
        GroupFolds.of(2)


def test_every_fold_is_tested_once_and_never_trained_on() -> None:
    folds = leave_one_out(5)
    assert sorted(part for fold in folds for part in fold.test) == list(range(5))
    for fold in folds:
        assert not set(fold.test) & set(fold.training)
        assert sorted((*fold.test, *fold.training)) == list(range(5))


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_in_pieces_are_in_the_fold_of_their_label_alone(seed: int) -> None:
    fold = fold_of_labels(LABELS, seed)
    digests = [blake2b(label.encode(), key=str(seed).encode(), digest_size=8).digest() for label in LABELS]
    assert fold.tolist() == [5 * int.from_bytes(digest, "big") >> 64 for digest in digests]
    assert set(fold) == set(range(5))
    pieces = [fold_of_labels(LABELS[start : start + 70], seed) for start in range(0, 300, 70)]
    np.testing.assert_array_equal(np.concatenate(pieces), fold)


def test_labels_may_be_numbers_of_any_kind() -> None:
    expected = fold_of_labels(range(50))
    np.testing.assert_array_equal(fold_of_labels(np.arange(50)), expected)
    np.testing.assert_array_equal(fold_of_labels(torch.arange(50)), expected)
    np.testing.assert_array_equal(fold_of_labels([str(label) for label in range(50)]), expected)
