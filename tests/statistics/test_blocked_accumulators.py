"""Gram matrices and R factors of rows in blocks against LAPACK on all rows at once, for inputs that are hard."""

import numpy as np
import pytest
import torch

from latentcmp.statistics import blocked_accumulators, triangles, whitening
from latentcmp.statistics.blocked_accumulators import (
    BlockedAccumulator,
    BlockedFactorAccumulator,
    BlockedGramAccumulator,
)

SIZE, ROWS = 40, 700
CASES = (
    "gaussian",
    "ill-conditioned",
    "rank-deficient",
    "equal columns",
    "nearly equal matrices",
    "a late direction",
    "a direction that ends",
    "growing rows",
)
WIDTHS = ([SIZE], [1, 16, 23], [20, 20])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_accumulators, "BLOCK", 64)
    monkeypatch.setattr(triangles, "PANEL", 16)
    monkeypatch.setattr(whitening, "PANEL", 16)


def rows_of(case: str) -> np.ndarray:
    rng = np.random.default_rng(len(case))
    rows = rng.normal(size=(ROWS, SIZE))
    if case == "ill-conditioned":
        rows = rows @ np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0] * np.geomspace(1, 1e-10, SIZE)
        rows = rows @ np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    if case == "rank-deficient":
        rows = rows[:, :10] @ rng.normal(size=(10, SIZE))
    if case == "equal columns":
        rows[:, 1::2] = rows[:, ::2]
        rows[:, -1] = 0
    if case == "nearly equal matrices":
        rows[:, 20:] = rows[:, :20] + 1e-6 * rows[:, 20:]
    if case == "growing rows":
        rows *= np.geomspace(1, 1e5, ROWS)[:, None]
    if case == "a late direction":
        rows[:400] = rows[:400, :20] @ rng.normal(size=(20, SIZE))
    if case == "a direction that ends":
        rows[100:] = rows[100:, :20] @ rng.normal(size=(20, SIZE))
    return rows


def empty(widths: list[int] | None) -> BlockedAccumulator:
    """An accumulator of the Gram matrix, or with widths of the R factor."""
    total = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    return BlockedGramAccumulator(total, [SIZE]) if widths is None else BlockedFactorAccumulator(total, widths)


def add(accumulator: BlockedAccumulator, rows: np.ndarray, *cuts: int) -> None:
    values = torch.from_numpy(rows)
    for positions in torch.arange(len(rows)).tensor_split(cuts):
        accumulator.add(positions, lambda out, chosen: out.copy_(values[chosen]))


def finished(accumulator: BlockedAccumulator) -> torch.Tensor:
    return accumulator.finish(torch.empty(SIZE, SIZE, dtype=torch.float64))


def streamed(rows: np.ndarray, *cuts: int, widths: list[int] | None = None) -> torch.Tensor:
    """The Gram matrix of rows, or with widths their R factor."""
    accumulator = empty(widths)
    add(accumulator, rows, *cuts)
    return finished(accumulator)


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_r_factors_have_the_singular_values_of_the_rows(case: str, widths: list[int]) -> None:
    rows = rows_of(case)
    r = streamed(rows, 10, 300, widths=widths).numpy()
    expected = np.linalg.svd(rows, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(r, compute_uv=False), expected, rtol=0, atol=3e-14 * expected[0])
    assert np.all(np.tril(r, -1) == 0)


@pytest.mark.parametrize("widths", [None, *WIDTHS])
@pytest.mark.parametrize("case", CASES)
def test_all_have_the_inner_products_of_the_rows(case: str, widths: list[int] | None) -> None:
    rows = rows_of(case)
    expected = rows.T @ rows
    found = streamed(rows, 99, widths=widths).numpy()
    product = found if widths is None else found.T @ found
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-6])
def test_what_one_matrix_lacks_of_another_keeps_its_digits(noise: float) -> None:
    rows = rows_of("gaussian")
    rows[:, 20:] = rows[:, :20] @ rows[:20, :20] + noise * rows[:, 20:]
    rows *= np.geomspace(1, 1e-9, SIZE)
    r = streamed(rows, widths=[20, 20]).numpy()
    expected = np.linalg.qr(rows, mode="r")
    np.testing.assert_allclose(np.abs(r.diagonal()), np.abs(expected.diagonal()), rtol=1e-9)


@pytest.mark.parametrize("widths", [None, *WIDTHS])
def test_cuts_do_not_change_a_bit(widths: list[int] | None) -> None:
    rows = rows_of("gaussian")
    assert torch.equal(streamed(rows, widths=widths), streamed(rows, 1, 63, 64, 65, 500, widths=widths))


@pytest.mark.parametrize("widths", [None, *WIDTHS])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [0, 40, 64, 333, 500])
def test_a_state_or_a_result_between_rows_does_not_change_a_bit(case: str, widths: list[int] | None, n: int) -> None:
    rows = rows_of(case)
    accumulator, other = empty(widths), empty(widths)
    add(accumulator, rows[:n])
    finished(accumulator)
    state = {name: tensor.contiguous() for name, tensor in accumulator.state_dict().items()}
    other.load_state_dict(state)
    for continued in (accumulator, other):
        add(continued, rows[n:])
        assert torch.equal(finished(continued), streamed(rows, widths=widths))


@pytest.mark.parametrize("widths", [None, *WIDTHS])
def test_merged_and_compacted_accumulators_have_the_inner_products_of_all_rows(widths: list[int] | None) -> None:
    rows = rows_of("gaussian")
    accumulator, other = empty(widths), empty(widths)
    add(accumulator, rows[:300])
    add(other, rows[300:500])
    accumulator.merge(finished(other))
    accumulator.compact()
    add(accumulator, rows[500:])
    result = finished(accumulator).numpy()
    product = result if widths is None else result.T @ result
    np.testing.assert_allclose(product, rows.T @ rows, rtol=0, atol=1e-13 * np.abs(rows.T @ rows).max())
    accumulator.reset()
    add(accumulator, rows)
    assert torch.equal(finished(accumulator), streamed(rows, widths=widths))


@pytest.mark.parametrize("n", [0, 1, 30])
def test_few_rows(n: int) -> None:
    rows = rows_of("gaussian")[:n]
    r = streamed(rows, widths=[20, 20]).numpy()
    np.testing.assert_allclose(r.T @ r, rows.T @ rows, atol=1e-12)
    np.testing.assert_allclose(streamed(rows).numpy(), rows.T @ rows, atol=1e-12)


def test_matrices_of_their_own_need_no_factor_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    householder = torch.linalg.qr

    def spy(rows: torch.Tensor, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        widths.append(rows.shape[1])
        return householder(rows, mode=mode)

    monkeypatch.setattr(torch.linalg, "qr", spy)
    streamed(rows_of("gaussian"), widths=[20, 20])
    assert SIZE not in widths
    streamed(rows_of("nearly equal matrices"), widths=[20, 20])
    assert SIZE in widths
