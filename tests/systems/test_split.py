"""Splits: functions of names, the same everywhere."""

import numpy as np
import pytest
from ase.build import bulk

from latentcmp.errors import InputError
from latentcmp.systems.folds import SEED, RowPart
from latentcmp.systems.group_folds import GroupFolds
from latentcmp.systems.split import split_as_paper, split_into_folds
from latentcmp.systems.system import System

SYSTEMS = [
    System(f"s{i}", bulk("Cu").repeat((1 + i % 3, 1, 1)), group=f"g{i // 4}", subset="abc"[i % 3]) for i in range(400)
]


def test_a_group_stays_together_and_atoms_follow_their_structure() -> None:
    split = split_into_folds(SYSTEMS)
    for group in {system.group for system in SYSTEMS}:
        assert len({int(b) for b, s in zip(split.systems, SYSTEMS, strict=True) if s.group == group}) == 1
    np.testing.assert_array_equal(split.atoms, np.repeat(split.systems, [len(s) for s in SYSTEMS]))
    assert split.folds == GroupFolds.of(100)
    assert np.bincount(split.systems).tolist() == [20] * 20  # 100 groups of 4 in 20 blocks
    assert split.rule == "5 folds by group (100 groups of 400 structures), each tested once, seed 0"


def test_the_order_of_structures_does_not_matter() -> None:
    whole = {s.id: int(b) for s, b in zip(SYSTEMS, split_into_folds(SYSTEMS).systems, strict=True)}
    turned = SYSTEMS[::-1]
    assert [whole[system.id] for system in turned] == split_into_folds(turned).systems.tolist()


def test_few_groups_make_fewer_blocks() -> None:
    split = split_into_folds(SYSTEMS[:28])
    assert split.folds == GroupFolds.of(7)
    assert np.bincount(split.systems).tolist() == [4] * 7
    with pytest.raises(InputError, match="at least 3 groups of rows, one to test and two to train on, got 2"):
        split_into_folds(SYSTEMS[:8])


def test_the_seed_is_a_key() -> None:
    assert (split_into_folds(SYSTEMS, seed=1).systems != split_into_folds(SYSTEMS, seed=2).systems).any()


def test_the_papers_split_takes_subsets_in_proportion() -> None:
    split = split_as_paper(SYSTEMS)
    n_atoms, test = sum(map(len, SYSTEMS)), split.systems == RowPart.TEST
    assert test.sum() == 200
    assert (split.atoms == RowPart.TEST).sum() == n_atoms // 2
    labels = np.array([system.subset for system in SYSTEMS])
    for label in "abc":
        assert abs(test[labels == label].sum() - (labels == label).sum() / 2) <= 1
    assert split.folds is None


def test_the_training_rows_of_the_papers_split_are_in_the_folds_of_scikit_learn() -> None:
    part = split_as_paper(SYSTEMS).systems
    kfold = pytest.importorskip("sklearn.model_selection").KFold(2, shuffle=True, random_state=SEED)
    train = np.flatnonzero(part != RowPart.TEST)
    for fold, (rows, _) in zip((RowPart.FOLD_1, RowPart.FOLD_2), kfold.split(train), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(part == fold), train[rows])


def test_a_thousand_test_rows_where_there_are_enough() -> None:
    many = [System(f"s{i}", bulk("Cu"), group=f"g{i}", subset="ab"[i % 5 == 0]) for i in range(3000)]
    test = split_as_paper(many).systems == RowPart.TEST
    assert test.sum() == 1000
    assert test[::5].sum() == 200
