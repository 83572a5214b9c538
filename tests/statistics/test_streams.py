"""Streamed Gram matrices and R factors against LAPACK on all rows at once, over the inputs that hurt."""

import numpy as np
import pytest
import torch

from latentcmp.statistics import streams
from latentcmp.statistics.streams import FactorStream, GramStream

SIZE, ROWS = 40, 700
CASES = ("gaussian", "ill-conditioned", "rank-deficient", "equal columns", "a late direction", "a direction that ends")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK", 64)
    monkeypatch.setattr(streams, "PANEL", 16)


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
    if case == "a late direction":
        rows[:400] = rows[:400, :20] @ rng.normal(size=(20, SIZE))
    if case == "a direction that ends":
        rows[100:] = rows[100:, :20] @ rng.normal(size=(20, SIZE))
    return rows


def streamed(kind: type[GramStream], rows: np.ndarray, *cuts: int) -> torch.Tensor:
    values = torch.from_numpy(rows)
    stream = kind(torch.zeros(SIZE, SIZE, dtype=torch.float64))
    for positions in torch.arange(len(rows)).tensor_split(cuts):
        stream.add(positions, lambda out, chosen: out.copy_(values[chosen]))
    stream.settle()
    return stream.total


@pytest.mark.parametrize("case", CASES)
def test_r_factors_have_the_singular_values_of_the_rows(case: str) -> None:
    rows = rows_of(case)
    r = streamed(FactorStream, rows, 10, 300).numpy()
    expected = np.linalg.svd(rows, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(r, compute_uv=False), expected, rtol=0, atol=3e-14 * expected[0])
    assert np.all(np.tril(r, -1) == 0)


@pytest.mark.parametrize("case", CASES)
def test_both_have_the_inner_products_of_the_rows(case: str) -> None:
    rows = rows_of(case)
    expected = rows.T @ rows
    for found in (streamed(FactorStream, rows, 99), streamed(GramStream, rows, 99)):
        product = found.numpy() if found[1, 0] != 0 else found.numpy().T @ found.numpy()
        np.testing.assert_allclose(product, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("kind", [GramStream, FactorStream])
def test_cuts_do_not_change_a_bit(kind: type[GramStream]) -> None:
    rows = rows_of("gaussian")
    assert torch.equal(streamed(kind, rows), streamed(kind, rows, 1, 63, 64, 65, 500))


@pytest.mark.parametrize("n", [0, 1, 30])
def test_few_rows(n: int) -> None:
    rows = rows_of("gaussian")[:n]
    r = streamed(FactorStream, rows).numpy()
    np.testing.assert_allclose(r.T @ r, rows.T @ rows, atol=1e-12)
    np.testing.assert_allclose(streamed(GramStream, rows).numpy(), rows.T @ rows, atol=1e-12)
