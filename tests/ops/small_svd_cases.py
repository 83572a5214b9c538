"""Small ill-conditioned matrices, and the comparison of a result with SciPy."""

import numpy as np
import torch
from scipy.linalg import svdvals

MATRICES = {
    "random": lambda rng, n, width: rng.normal(size=(n, width)),
    "graded columns": lambda rng, n, width: rng.normal(size=(n, width)) * np.geomspace(1, 1e-13, width),
    "graded rows": lambda rng, n, width: rng.normal(size=(n, width)) * np.geomspace(1e-9, 1, n)[:, None],
    "deficient": lambda rng, n, width: rng.normal(size=(n, 1)) @ rng.normal(size=(1, width)),
    "duplicated": lambda rng, n, width: rng.normal(size=((n + 1) // 2, width)).repeat(2, 0)[:n],
    "zero": lambda rng, n, width: np.zeros((n, width)),
    "tiny": lambda rng, n, width: 1e-12 * rng.normal(size=(n, width)),
}


def make_matrices(case, n, width, problems=2):
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([MATRICES[case](rng, n, width) for _ in range(problems)]))


def check_svd(found, matrices, limit=1e-13):
    """Values and products relative to the largest singular value; right vectors where it is not zero."""
    for u, s, vh, matrix in zip(*(part.numpy() for part in found), matrices.numpy(), strict=True):
        top = svdvals(matrix)[0]
        assert (np.diff(s) <= 0).all()
        np.testing.assert_allclose(s, svdvals(matrix), rtol=0, atol=limit * top)
        np.testing.assert_allclose(u.T @ u, np.eye(len(s)), rtol=0, atol=limit)
        np.testing.assert_allclose((u * s) @ vh, matrix, rtol=0, atol=limit * top)
        right = vh[s > 0]
        np.testing.assert_allclose(right @ right.T, np.eye(len(right)), rtol=0, atol=limit)
