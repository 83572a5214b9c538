"""Nearest rows against exact arithmetic: copies, ties, offsets, batches; and how many are searched at once."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from latentcmp.measures import nearest as neighbours
from latentcmp.measures.nearest import (
    SPARE,
    distances_to,
    exact_squared_distances,
    nearest,
    nearest_others,
    ranks_by_scores,
    rows_at_once,
    scores_of_block,
)

N, M, WIDTH = 120, 20, 6
CUDA = torch.device("cuda", 0)


def test_rows_shrink_with_their_numbers_and_never_below_one() -> None:
    cpu = torch.device("cpu")
    assert rows_at_once(1, cpu) == 512
    assert 1 < rows_at_once(100_000, cpu) < 512
    assert rows_at_once(10**12, cpu) == 1


@pytest.mark.parametrize("free", [1 << 20, 1 << 28, 1 << 40])
def test_a_batch_takes_no_more_than_a_quarter_of_what_a_gpu_has_free(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 41))
    numbers = 1000
    assert 8 * numbers * rows_at_once(numbers, CUDA) <= max(free // 4, 8 * numbers)
    assert rows_at_once(numbers, CUDA) <= 4096


def gaussian(n: int = N, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width))


def copied(n_distinct: int) -> np.ndarray:
    """Rows that are copies of a few, in any order."""
    return gaussian(n_distinct)[np.random.default_rng(1).integers(n_distinct, size=N)]


def grid(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, size=(n, WIDTH)).astype(float)


CASES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "gaussian": lambda: (gaussian(), gaussian(M, seed=1)),
    "every row twice": lambda: (np.concatenate([gaussian(N // 2)] * 2), gaussian(M, seed=1)),
    "copies of five": lambda: (copied(5), gaussian(M, seed=1)),
    "one row": lambda: (copied(1), gaussian(M, seed=1)),
    "grid": lambda: (grid(N, 0), grid(M, 1)),
    "queries among the rows": lambda: (copied(30), copied(30)[:M]),
    "an offset": lambda: (copied(40) + 2.0**20, gaussian(M, seed=1) + 2.0**20),
    "a huge offset": lambda: (np.round(copied(40) * 8) + 2.0**40, np.round(gaussian(M, seed=1) * 8) + 2.0**40),
    "one far row": lambda: (copied(40) * np.where(np.arange(N) == 7, 1e150, 1)[:, None], gaussian(M, seed=1)),
    "tiny": lambda: (copied(40) * 1e-150, gaussian(M, seed=1) * 1e-150),
    "too small to square": lambda: (grid(N, 0) * 1e-170, grid(M, 1) * 1e-170),
    "zero": lambda: (np.zeros((N, WIDTH)), np.zeros((M, WIDTH))),
}


def ranked_by_fractions(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Positions [m, n] of all rows, nearest first by arithmetic without rounding, ties in row order."""
    exact = [[Fraction(value) for value in row] for row in rows.tolist()]
    found = []
    for query in queries.tolist():
        point = [Fraction(value) for value in query]
        squares = [sum((a - b) ** 2 for a, b in zip(row, point, strict=True)) for row in exact]
        found.append(sorted(range(len(rows)), key=squares.__getitem__))
    return np.array(found)


def tree_of(query: list[float], row: list[float]) -> float:
    """The squared distance by Python's own floats: halves of the columns added until one is left."""
    squares = [(b - a) * (b - a) for a, b in zip(query, row, strict=True)]
    while len(squares) > 1:
        half = len(squares) // 2
        folded = [a + b for a, b in zip(squares[:half], squares[len(squares) - half :], strict=True)]
        squares = folded + squares[half : len(squares) - half]
    return squares[0]


@pytest.mark.parametrize("case", [name for name in CASES if name != "too small to square"])
def test_nearest_are_those_of_exact_arithmetic_in_any_batch(case: str) -> None:
    rows, queries = CASES[case]()
    expected = ranked_by_fractions(rows, queries)
    for k in (1, 2, 7, N - 1, N):
        for batch_size in (1, 3, 16, None):
            found = nearest(torch.from_numpy(rows), torch.from_numpy(queries), k, batch_size)
            np.testing.assert_array_equal(found, expected[:, :k])


@pytest.mark.parametrize("case", CASES)
def test_the_order_is_that_of_direct_distances_however_they_are_cut(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = map(torch.from_numpy, CASES[case]())
    expected = exact_squared_distances(queries[:, None], rows).argsort(dim=1, stable=True)
    for numbers in (1, 5 * WIDTH, 1 << 20):  # a distance at a time, a few, all
        monkeypatch.setattr(neighbours, "_DIFFERENCES", (numbers, numbers))
        for first, k in ((0, 9), (3, N)):
            torch.testing.assert_close(nearest(rows, queries[first:], k), expected[first:, :k])


@pytest.mark.parametrize("case", [name for name in CASES if name != "too small to square"])
def test_rows_of_the_group_of_a_query_are_left_out(case: str) -> None:
    rows, queries = CASES[case]()
    ranked = ranked_by_fractions(rows, queries)
    groups = [np.random.default_rng(seed).integers(7, size=n) for seed, n in ((3, N), (4, M))]
    others = [row[groups[0][row] != own] for row, own in zip(ranked, groups[1], strict=True)]
    given = torch.from_numpy(groups[0]), torch.from_numpy(groups[1])
    for k in (1, 7, min(map(len, others))):
        for batch_size in (1, 3, None):
            found = nearest(torch.from_numpy(rows), torch.from_numpy(queries), k, batch_size, given)
            np.testing.assert_array_equal(found, [row[:k] for row in others])


@pytest.mark.parametrize("case", [name for name in CASES if name != "too small to square"])
def test_ranks_are_those_of_exact_arithmetic(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = CASES[case]()
    ranked = ranked_by_fractions(rows, queries)
    x, q = torch.from_numpy(rows), torch.from_numpy(queries)
    norms = torch.linalg.vecdot(x, x)
    scores = scores_of_block(x, norms, q)
    scores[:, 5] = torch.inf  # not counted
    counted = ranked[ranked != 5].reshape(M, N - 1)
    for rank in (0, 1, 40, N - 2):
        positions = torch.from_numpy(counted[:, rank])
        for numbers in (WIDTH, 1 << 20):
            monkeypatch.setattr(neighbours, "_DIFFERENCES", (numbers, numbers))
            assert ranks_by_scores(scores, x, norms, q, positions).tolist() == [rank + 1] * M


def test_a_group_of_doubtful_queries_takes_no_more_candidates_than_its_own_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, taken = gaussian(2000), []
    rows[:1000] = rows[0]
    queries = torch.from_numpy(np.concatenate([rows[1100:1139], rows[:1]]))  # one lies in the crowd

    def spy(rows: torch.Tensor, norms: torch.Tensor, queries: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        taken.append(near.numel())
        return distances_to(rows, norms, queries, near)

    monkeypatch.setattr(neighbours, "distances_to", spy)
    found = nearest(torch.from_numpy(rows), queries, 5)
    assert found[-1].tolist() == [0, 1, 2, 3, 4]
    assert sum(taken) < 10_000


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 13, 64, 100, 257])
def test_two_rows_have_one_distance_in_any_batch_at_any_stride(width: int) -> None:
    rows, queries = gaussian(70, width), gaussian(9, width, seed=1)
    expected = np.array([[tree_of(query, row) for row in rows.tolist()] for query in queries.tolist()])
    x, q = torch.from_numpy(rows), torch.from_numpy(queries)
    strided = torch.zeros(70, width + 3, dtype=torch.float64)[:, 1 : width + 1].copy_(x)
    for values in (x, x.T.contiguous().T, strided):
        for m, n in ((9, 70), (1, 70), (9, 1), (3, 33), (7, 5)):
            np.testing.assert_array_equal(exact_squared_distances(q[:m, None], values[:n]), expected[:m, :n])
    picked = torch.from_numpy(np.random.default_rng(2).integers(70, size=(9, 31)))
    found = distances_to(x, torch.linalg.vecdot(x, x), q, picked)
    np.testing.assert_array_equal(found, np.take_along_axis(expected, picked.numpy(), 1))


def test_distances_are_right_where_products_cancel() -> None:
    rows, queries = gaussian() + 1e6, gaussian(M, seed=1) + 1e6
    found = exact_squared_distances(torch.from_numpy(queries)[:, None], torch.from_numpy(rows)).numpy()
    expected = ((queries[:, None].astype(np.longdouble) - rows.astype(np.longdouble)) ** 2).sum(-1)
    np.testing.assert_allclose(found, expected.astype(float), rtol=1e-15)


@pytest.mark.parametrize("k", [1, 5, N - SPARE - 2, N - 1])
@pytest.mark.parametrize("case", ["gaussian", "every row twice", "an offset"])
def test_nearest_others_leave_out_the_row_itself(case: str, k: int) -> None:
    rows = CASES[case]()[0]
    expected = ranked_by_fractions(rows, rows)
    expected = expected[expected != np.arange(N)[:, None]].reshape(N, N - 1)[:, :k]
    x = torch.from_numpy(rows)
    if case != "an offset":  # there more rows than the spare ones are within rounding of the k-th
        np.testing.assert_array_equal(nearest_others(x, x, k), expected)
    compiled = torch.compile(nearest_others, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, x, k), nearest_others(x, x, k))
