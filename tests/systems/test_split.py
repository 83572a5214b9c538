"""Splits: functions of names, the same everywhere."""

import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk

from latentcmp.errors import InputError
from latentcmp.systems.split import rows_by_group, split_as_paper, split_by_group
from latentcmp.systems.system import System

SYSTEMS = [
    System(f"s{i}", bulk("Cu").repeat((1 + i % 3, 1, 1)), group=f"g{i // 4}", subset="abc"[i % 3]) for i in range(400)
]


def test_a_group_stays_together_and_atoms_follow_their_structure() -> None:
    split = split_by_group(SYSTEMS, 0.25)
    for group in {system.group for system in SYSTEMS}:
        assert len({bool(t) for t, s in zip(split.systems, SYSTEMS, strict=True) if s.group == group}) == 1
    np.testing.assert_array_equal(split.atoms, np.repeat(split.systems, [len(s) for s in SYSTEMS]))
    assert 0.1 < split.systems.mean() < 0.4


def test_order_and_company_do_not_matter() -> None:
    whole = {s.id: bool(t) for s, t in zip(SYSTEMS, split_by_group(SYSTEMS).systems, strict=True)}
    part = SYSTEMS[::-1][:150]
    for system, test in zip(part, split_by_group(part).systems, strict=True):
        assert whole[system.id] == bool(test)


def test_the_seed_is_a_key() -> None:
    assert (split_by_group(SYSTEMS, seed=1).systems != split_by_group(SYSTEMS, seed=2).systems).any()


def test_the_hash_seed_of_python_does_not_matter() -> None:
    code = (
        "from latentcmp.systems.split import rows_by_group\n"
        "print(rows_by_group([f'g{i}' for i in range(50)], 50).sum())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert printed == {f"{rows_by_group([f'g{i}' for i in range(50)], 50).sum()}\n"}


def test_the_papers_split_takes_subsets_in_proportion() -> None:
    split = split_as_paper(SYSTEMS)
    n_atoms = sum(map(len, SYSTEMS))
    assert split.systems.sum() == 200
    assert split.atoms.sum() == n_atoms // 2
    labels = np.array([system.subset for system in SYSTEMS])
    for label in "abc":
        assert abs(split.systems[labels == label].sum() - (labels == label).sum() / 2) <= 1


def test_a_thousand_test_rows_where_there_are_enough() -> None:
    many = [System(f"s{i}", bulk("Cu"), group=f"g{i}", subset="ab"[i % 5 == 0]) for i in range(3000)]
    split = split_as_paper(many)
    assert split.systems.sum() == 1000
    assert split.systems[::5].sum() == 200


@pytest.mark.parametrize(
    ("groups", "n", "fraction", "message"),
    [
        (["a"] * 4, 4, 0.5, "1 groups of rows split into"),
        (["a", "b"], 3, 0.5, "2 labels for 3 rows"),
        (["a", "b"], 2, 1.5, "between 0 and 1"),
    ],
)
def test_a_split_that_cannot_be_made_is_an_error(groups: list[str], n: int, fraction: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows_by_group(groups, n, fraction)
