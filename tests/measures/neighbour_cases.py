"""Measures of neighbours written out on n x n matrices, from the definitions of others; and rows to compare."""

import numpy as np


def rows(n: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two related matrices."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 3))
    return np.tanh(latent @ rng.normal(size=(3, 5))), np.sin(latent @ rng.normal(size=(3, 4))) + 7


def integers(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Rows of small integers: many copies, and exact ties between all others."""
    rng = np.random.default_rng(5)
    return rng.integers(3, size=(n, 3)).astype(float), rng.integers(4, size=(n, 2)).astype(float)


def labels(n: int, n_groups: int = 30) -> np.ndarray:
    """Groups of several sizes in any order."""
    return np.random.default_rng(6).integers(n_groups, size=n) * 10 - 50


def squared_distances(x: np.ndarray) -> np.ndarray:
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def excluded(n: int, groups: np.ndarray | None) -> np.ndarray:
    return np.eye(n, dtype=bool) if groups is None else groups[:, None] == groups


def order(x: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Positions [n, n] of all rows, nearest first, ties in row order, those left out last."""
    return np.argsort(np.where(excluded(len(x), groups), np.inf, squared_distances(x)), axis=1, kind="stable")


def mask(x: np.ndarray, k: int, groups: np.ndarray | None = None) -> np.ndarray:
    near = np.zeros((len(x), len(x)), bool)
    np.put_along_axis(near, order(x, groups)[:, :k], True, 1)
    return near


def mutual_knn(x: np.ndarray, y: np.ndarray, k: int, groups: np.ndarray | None = None) -> float:
    """`AlignmentMetrics.mutual_knn` of platonic-rep: mean over rows of the share of common neighbours."""
    return (mask(x, k, groups) & mask(y, k, groups)).sum(1).mean() / k


def hsic_unbiased(K: np.ndarray, L: np.ndarray) -> float:
    """`hsic_unbiased` of platonic-rep: Song et al. (2012), eq. 5."""
    m = len(K)
    K_tilde, L_tilde = K * (1 - np.eye(m)), L * (1 - np.eye(m))
    value = (K_tilde * L_tilde.T).sum() + K_tilde.sum() * L_tilde.sum() / ((m - 1) * (m - 2))
    return (value - 2 * (K_tilde @ L_tilde).sum() / (m - 2)) / (m * (m - 3))


def cknna(x: np.ndarray, y: np.ndarray, k: int, groups: np.ndarray | None = None) -> float:
    """`AlignmentMetrics.cknna` of platonic-rep (unbiased, without its 1e-6) of centred rows of unit length."""
    K, L = (unit @ unit.T for unit in (unit_rows(x), unit_rows(y)))

    def largest(kernel: np.ndarray) -> np.ndarray:
        near = np.zeros_like(kernel)
        ranked = np.argsort(np.where(excluded(len(x), groups), np.inf, -kernel), axis=1, kind="stable")
        np.put_along_axis(near, ranked[:, :k], 1.0, 1)
        return near

    of_k, of_l = largest(K), largest(L)
    both = of_k * of_l
    norms = hsic_unbiased(of_k * K, of_k * K) * hsic_unbiased(of_l * L, of_l * L)
    return hsic_unbiased(both * K, both * L) / np.sqrt(norms)


def unit_rows(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def imbalance(x: np.ndarray, y: np.ndarray, k: int = 1, groups: np.ndarray | None = None) -> float:
    """`_return_imbalance` of DADApy: 2 / n times the mean rank in y, from 1, of the k nearest in x."""
    n, of_x, of_y = len(x), order(x, groups), order(y, groups)
    ranks = np.empty_like(of_y)
    np.put_along_axis(ranks, of_y, np.broadcast_to(np.arange(1, n + 1), (n, n)), 1)
    return 2 / n * np.take_along_axis(ranks, of_x[:, :k], 1).mean()


def two_nn(x: np.ndarray, discarded: float = 0.1) -> float:
    """Facco et al. (2017), as `compute_id_2NN` of DADApy and `TwoNN` of scikit-dimension fit it."""
    near = np.sqrt(np.sort(np.where(np.eye(len(x)) > 0, np.inf, squared_distances(x)), 1)[:, :2])
    near = near[near[:, 0] > 0]
    mu = np.sort(near[:, 1] / near[:, 0])
    kept, empirical = int(len(mu) * (1 - discarded)), np.arange(1, len(mu) + 1) / len(mu)
    a, b = np.log(mu[:kept]), -np.log(1 - empirical[:kept])
    return (a @ b) / (a @ a)
