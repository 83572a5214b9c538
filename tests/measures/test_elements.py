"""Moments and errors within elements against loops over raw rows in NumPy, element by element."""

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.measures.elements import (
    ElementError,
    element_means,
    element_resolved,
    elements_with_groups,
    share_between_elements,
    within_element_gram,
)
from latentcmp.statistics.element_sums import ElementSums, ElementTable

N, D, N_PARTS = 600, 7, 4
RNG = np.random.default_rng(5)
NUMBERS = RNG.choice([1, 6, 8, 26], size=N)
PART = RNG.integers(N_PARTS, size=N)
NUMBERS[:9], PART[:9] = 92, 3  # an element in one part alone
ROWS = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + np.sqrt(NUMBERS)[:, None] * RNG.normal(size=D) + 4


def table_of(rows: np.ndarray, pivot: np.ndarray) -> tuple[torch.Tensor, ElementTable]:
    """Gram matrices [n_parts, D, D] and sums by element, about a pivot."""
    sums = ElementSums({"x": D}, N_PARTS, pivot=torch.from_numpy(pivot))
    sums.update({"x": torch.from_numpy(rows)}, torch.from_numpy(PART), torch.from_numpy(NUMBERS))
    moved = [rows[part == PART].astype(np.float64) - pivot for part in range(N_PARTS)]
    return torch.from_numpy(np.stack([of_part.T @ of_part for of_part in moved])), sums.compute()


def centred_by_loop(rows: np.ndarray, parts: list[int], training: list[int]) -> np.ndarray:
    """Rows of parts less the mean of the training rows of their element, or of all training rows."""
    trains, rows = np.isin(PART, training), rows.astype(np.float64)
    centred = []
    for row in np.flatnonzero(np.isin(PART, parts)):
        same = trains & (NUMBERS[row] == NUMBERS)
        centred.append(rows[row] - rows[same if same.any() else trains].mean(0))
    return np.array(centred)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("parts", "training"), [([0, 1, 2], [0, 1, 2]), ([3], [0, 1, 2]), ([1], [0, 2, 3])])
def test_the_gram_matrix_within_elements_is_that_of_centred_rows(
    dtype: type, parts: list[int], training: list[int]
) -> None:
    rows = ROWS.astype(dtype)
    grams, table = table_of(rows, np.linspace(3, 5, D))
    means = element_means(table.sums[training].sum(0), table.counts[training].sum(0))
    found = within_element_gram(grams[parts].sum(0), table.sums[parts].sum(0), table.counts[parts].sum(0), means)
    centred = centred_by_loop(rows, parts, training)
    np.testing.assert_allclose(found.numpy(), centred.T @ centred, rtol=1e-11, atol=1e-9)
    assert torch.equal(found, found.T)


def test_an_error_within_elements_is_that_of_a_fit_to_centred_rows() -> None:
    """The held-out error of a ridge map from the moments, and from the rows."""
    grams, table = table_of(ROWS, np.zeros(D))
    training, held_out = [0, 1, 2], [3]
    means = element_means(table.sums[training].sum(0), table.counts[training].sum(0))
    fitted, tested = (
        within_element_gram(grams[p].sum(0), table.sums[p].sum(0), table.counts[p].sum(0), means).numpy()
        for p in (training, held_out)
    )
    x, y = slice(0, 4), slice(4, D)
    W = np.linalg.solve(fitted[x, x] + 0.1 * np.eye(4), fitted[x, y])
    squared = np.trace(tested[y, y] - 2 * W.T @ tested[x, y] + W.T @ tested[x, x] @ W)
    train, test = centred_by_loop(ROWS, training, training), centred_by_loop(ROWS, held_out, training)
    design = np.vstack([train[:, x], np.sqrt(0.1) * np.eye(4)])
    of_rows = np.linalg.lstsq(design, np.vstack([train[:, y], np.zeros((4, 3))]), rcond=None)[0]
    np.testing.assert_allclose(squared, ((test[:, y] - test[:, x] @ of_rows) ** 2).sum(), rtol=1e-9)


@pytest.mark.parametrize("pivot", [0.0, 4.0])
def test_the_share_between_elements_is_one_less_that_within(pivot: float) -> None:
    grams, table = table_of(ROWS, np.full(D, pivot))
    found = share_between_elements(grams.sum(0).trace(), table.sums.sum(0), table.counts.sum(0))
    of_elements = (ROWS[e == NUMBERS] for e in np.unique(NUMBERS))
    within = sum(((rows - rows.mean(0)) ** 2).sum() for rows in of_elements)
    np.testing.assert_allclose(float(found), 1 - within / ((ROWS - ROWS.mean(0)) ** 2).sum(), rtol=1e-12)


def test_the_share_is_0_for_equal_means_and_1_for_equal_rows_of_an_element() -> None:
    counts = torch.tensor([2, 2, 0])
    sums = torch.tensor([[2.0, 0.0], [-2.0, 4.0], [0.0, 0.0]])  # rows (1, 0) twice and (-1, 2) twice
    assert float(share_between_elements(torch.tensor(12.0), sums, counts)) == 1
    assert float(share_between_elements(torch.tensor(12.0), torch.zeros(3, 2), counts)) == 0
    with pytest.raises(InputError, match="the 4 rows are equal or not finite"):
        share_between_elements(torch.tensor(4 * 0.3**2 + 1e-16), torch.tensor([[0.6], [0.6], [0.0]]).double(), counts)
    with pytest.raises(InputError, match="the 4 rows are equal or not finite"):
        share_between_elements(torch.tensor(torch.nan), sums, counts)


def by_loop(errors: np.ndarray, spread: np.ndarray, chosen: list[int]) -> tuple[float, float]:
    """Error over the total spread and over the own spread of the rows of some elements."""
    e = y = n = 0.0
    for row in range(N):
        if NUMBERS[row] in chosen:
            e, y, n = e + float(errors[row]), y + float(spread[row]), n + 1
    return (e / n) ** 0.5, (e / y) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("named", [False, True])
def test_errors_are_resolved_by_element(dtype: torch.dtype, named: bool) -> None:
    errors, spread = (torch.from_numpy(RNG.uniform(0.1, 2, N)).to(dtype) for _ in range(2))
    numbers = np.arange(N) // 10
    groups = np.where(NUMBERS == 8, numbers % 7, numbers)  # oxygen in seven groups
    rows = element_resolved(errors, spread, NUMBERS, groups.astype(str) if named else groups)
    assert [row.element for row in rows] == ["H", "C", "Fe", "others"]
    for row, elements in zip(rows, ([1], [6], [26], [8, 92]), strict=True):
        chosen = np.isin(NUMBERS, elements)
        assert (row.n_atoms, row.n_groups) == (chosen.sum(), len(set(groups[chosen].tolist())))
        np.testing.assert_allclose((row.over_total, row.over_own), by_loop(errors, spread, elements), rtol=1e-12)
    assert sum(row.n_atoms for row in rows) == N
    assert [row.element for row in element_resolved(errors, spread, NUMBERS, groups, 1)] == ["H", "C", "O", "Fe", "U"]


def test_elements_are_counted_by_their_groups() -> None:
    numbers, groups = np.array([8, 8, 8, 1, 1, 26]), np.array(["b", "a", "b", "c", "c", "a"])
    assert [elements_with_groups(numbers, groups, least).tolist() for least in (1, 2, 3)] == [[1, 8, 26], [8], []]


def test_rows_without_spread_have_no_error_over_it() -> None:
    (row,) = element_resolved(torch.zeros(2), torch.zeros(2), np.array([6, 6]), np.array([0, 1]), 2)
    assert row[:4] == ElementError("C", 2, 2, 0.0, 0.0)[:4]
    assert np.isnan(row.over_own)


def test_arguments_that_do_not_fit_are_explained() -> None:
    sums, counts = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(InputError, match=r"sums must be \[E, D\] and counts \[E\] .*, got \(3, 2\) and \(2,\)"):
        element_means(sums, counts[:2])
    with pytest.raises(InputError, match="at least 1 row"):
        element_means(sums, counts)
    with pytest.raises(InputError, match=r"need a Gram matrix \(2, 2\) and means \(3, 2\), got \(3, 3\) and \(3, 2\)"):
        within_element_gram(torch.zeros(3, 3), sums, counts, sums)
    with pytest.raises(InputError, match=r"for the same n rows, got shapes"):
        element_resolved(torch.zeros(3), torch.zeros(2), np.zeros(2, dtype=int), np.zeros(2, dtype=int))
