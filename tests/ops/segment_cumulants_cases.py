"""Ragged cases and their cumulants from scipy, for the tests of every backend."""

import numpy as np
import torch
from scipy import stats

COUNTS = [3, 0, 17, 1, 5, 5, 2, 40, 0]


def make_case(counts=COUNTS, columns=6, dtype=torch.float64, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((sum(counts), columns)) ** 2 + mean
    ptr = np.concatenate([[0], np.cumsum(counts)])
    return torch.from_numpy(x).to(dtype), torch.from_numpy(ptr).long()


def scipy_cumulants(x, ptr, order):
    """[n_systems, order, D] in float64 from scipy's central moments and the closed formulas, written out."""
    x, ptr = x.double().numpy(), ptr.numpy()
    out = np.zeros((len(ptr) - 1, 8, x.shape[1]))
    for s in range(len(ptr) - 1):
        rows = x[ptr[s] : ptr[s + 1]]
        if len(rows) == 0:
            continue
        m2, m3, m4, m5, m6, m7, m8 = (stats.moment(rows, order=j, axis=0) for j in range(2, 9))
        out[s] = [
            rows.mean(0),
            m2,
            m3,
            m4 - 3 * m2**2,
            m5 - 10 * m2 * m3,
            m6 - 15 * m2 * m4 - 10 * m3**2 + 30 * m2**3,
            m7 - 21 * m2 * m5 - 35 * m3 * m4 + 210 * m2**2 * m3,
            m8 - 28 * m2 * m6 - 56 * m3 * m5 - 35 * m4**2 + 420 * m2**2 * m4 + 560 * m2 * m3**2 - 630 * m2**4,
        ]
    return torch.from_numpy(out[:, :order])
