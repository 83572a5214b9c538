"""Rows with ill-conditioned Gram matrices, and the comparison of a result with SciPy."""

import numpy as np
import torch
from scipy.linalg import eigh

N_ROWS = 300
SMALLEST = 1e-260
"""Absolute floor of the largest eigenvalue in tolerances: the kernel takes a trace below 1e-280 as 0."""


def _deficient(rng, width):
    return rng.normal(size=(N_ROWS, 3)) @ rng.normal(size=(3, width))


CASES = {
    "random": lambda rng, width: rng.normal(size=(N_ROWS, width)),
    "graded": lambda rng, width: rng.normal(size=(N_ROWS, width)) * np.geomspace(1, 1e-9, width),
    "deficient": _deficient,
    "duplicated": lambda rng, width: rng.normal(size=(N_ROWS // 10, width)).repeat(10, 0),
    "equal": lambda rng, width: np.ones((N_ROWS, 1)) * rng.normal(size=width),
    "tiny": lambda rng, width: 1e-12 * _deficient(rng, width),
    "vanishing": lambda rng, width: 1e-160 * rng.normal(size=(N_ROWS, width)),
    "large": lambda rng, width: 1e6 * rng.normal(size=(N_ROWS, width)),
    "far away": lambda rng, width: 1e6 + rng.normal(size=(N_ROWS, width)),
}


def make_rows(case, width, k, problems=2, seed=0):
    """x [N_ROWS, width] and positions [problems, k]."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.ascontiguousarray(CASES[case](rng, width)))
    return x, torch.from_numpy(np.stack([rng.permutation(N_ROWS)[:k] for _ in range(problems)]))


def exact_rows(x, rows):
    """Centred rows and their Gram matrix in NumPy's longdouble, about the first row."""
    near = x[rows].numpy().astype(np.longdouble)
    near = near - near[:1]
    near = near - near.mean(0)
    return near, near @ near.T


def check_spectra(found, x, rows, limit=1e-13):
    """Every problem against the exact Gram matrix and SciPy's eigenvalues, relative to the largest."""
    n_first = found.first.directions.shape[1]
    for b, positions in enumerate(rows):
        near, gram = exact_rows(x, positions)
        top = max(float(np.trace(gram)), SMALLEST)
        spread = np.abs(near).max()
        np.testing.assert_allclose(found.x[b].numpy(), near.astype(float), rtol=0, atol=1e-14 * float(spread))
        np.testing.assert_allclose(found.mean[b].numpy(), x[positions].numpy().mean(0), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(found.gram[b].numpy(), gram.astype(float), rtol=0, atol=limit * top)
        parts = slice(None, n_first), slice(n_first, None), slice(None)
        for part, spectrum in zip(parts, (found.first, found.second, found.whole), strict=True):
            _check_spectrum(spectrum.squares[b].numpy(), spectrum.directions[b].numpy(), gram[part, part], limit)


def _check_spectrum(squares, directions, gram, limit):
    gram = gram.astype(float)
    expected = eigh(gram, eigvals_only=True)[::-1]
    top = max(expected[0], SMALLEST)
    rank = len(squares)
    assert (np.diff(squares) <= 0).all()
    np.testing.assert_allclose(squares, expected[:rank], rtol=0, atol=limit * top)
    np.testing.assert_allclose(directions.T @ directions, np.eye(rank), rtol=0, atol=limit)
    np.testing.assert_allclose(gram @ directions, directions * squares, rtol=0, atol=limit * top)
