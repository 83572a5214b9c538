"""Groups and keys of rows without a name, by their values."""

import numpy as np
import pytest
import torch

from latentcmp.comparison.row_order import RowOrder
from latentcmp.errors import InputError
from latentcmp.statistics.row_keys import row_keys

N = 200
LABELS = [f"g{row // 4}" for row in range(N)]


def matrices(noise: float = 0.0) -> dict[str, torch.Tensor]:
    """Two matrices of different scales, of which every second row repeats the one before it."""
    rng = np.random.default_rng(0)
    found = {}
    for name, width, scale in (("a", 5, 1.0), ("b", 8, 1e4)):
        rows = scale * rng.normal(size=(N // 2, width)).repeat(2, 0)
        found[name] = torch.from_numpy(rows + noise * scale * rng.normal(size=rows.shape))
    return found


def turned(order: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: values[torch.from_numpy(order)] for name, values in matrices().items()}


@pytest.mark.parametrize("labels", [None, LABELS])
def test_keys_follow_the_rows_in_any_order(labels: list[str] | None) -> None:
    """Of equal rows either may have either key."""
    expected, order = RowOrder.of(matrices(), labels, 0), np.random.default_rng(1).permutation(N)
    found = RowOrder.of(turned(order), labels and [labels[row] for row in order], 0)
    assert found.groups == [expected.groups[row] for row in order]
    values = [
        torch.cat(list(of.values()), 1)[torch.from_numpy(rank.argsort())]
        for of, rank in ((matrices(), expected.rank), (turned(order), found.rank))
    ]
    assert torch.equal(*values)
    keys = [of.keys[of.rank.argsort()] for of in (expected, found)]
    np.testing.assert_array_equal(*keys)


def test_equal_rows_are_one_group_and_others_are_not() -> None:
    groups = RowOrder.of(matrices(), None, 0).groups
    assert groups[::2] == groups[1::2]
    assert len(set(groups)) > 90  # of 100 rows, some of which agree to three digits


def test_noise_leaves_almost_all_groups() -> None:
    groups, noisy = (RowOrder.of(matrices(noise), None, 0).groups for noise in (0.0, 1e-7))
    assert sum(one != other for one, other in zip(groups, noisy, strict=True)) <= 2
    far = RowOrder.of(matrices(0.1), None, 0).groups
    assert sum(one != other for one, other in zip(groups, far, strict=True)) > 100


def test_every_matrix_tells_rows_apart() -> None:
    rows = matrices()
    for name in rows:
        flat = rows | {name: torch.zeros_like(rows[name])}
        assert len(set(RowOrder.of(flat, None, 0).groups)) > 90


def test_keys_are_those_of_groups_and_rank_their_order() -> None:
    order = RowOrder.of(matrices(), LABELS, seed=3)
    names = sorted(set(LABELS))
    expected = row_keys(names, [4] * len(names), seed=3)
    assert {tuple(key) for key in order.keys.tolist()} == {tuple(key) for key in expected.tolist()}
    for row, label in enumerate(LABELS):
        assert order.keys[row].tolist() in expected[4 * names.index(label) : 4 * names.index(label) + 4].tolist()
    by_key = sorted(range(N), key=lambda row: tuple(order.keys[row].tolist()))
    assert order.rank.argsort().tolist() == by_key
    assert (RowOrder.of(matrices(), LABELS, seed=4).keys[:, 0] != order.keys[:, 0]).all()


@pytest.mark.parametrize("labels", [np.arange(N) // 4, torch.arange(N) // 4, [row // 4 for row in range(N)]])
def test_labels_of_any_type_are_their_text(labels: object) -> None:
    assert RowOrder.of(matrices(), labels, 0).groups == [str(row // 4) for row in range(N)]  # type: ignore[arg-type]


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(InputError, match="one label a row, got 3 labels for 200 rows"):
        RowOrder.of(matrices(), ["a", "b", "c"], 0)
