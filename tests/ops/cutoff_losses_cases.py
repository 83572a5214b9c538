"""Small two-fold problems and their losses from NumPy's pseudo-inverse and scikit-learn's score."""

import numpy as np
import torch
from sklearn.metrics import root_mean_squared_error

from latentcmp.ops.cutoff_losses import FoldFit

ALPHAS = np.geomspace(1e-3, 0.9, 7)


def make_problem(sizes=(5, 6), columns=7, width=9, problems=4, seed=0):
    """Source rows [problems, sum(sizes), width] with singular values of 1 to 1e-3, target, rows, both folds."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    x = rng.normal(size=(problems, n, width)) * np.geomspace(1, 1e-3, width)
    y = torch.from_numpy(rng.normal(size=(50, columns)) + 3.0)
    rows = torch.from_numpy(np.stack([rng.permutation(50)[:n] for _ in range(problems)]))
    parts = x[:, : sizes[0]], x[:, sizes[0] :]
    first = fold(parts[0], parts[1], rows[:, : sizes[0]])
    second = fold(parts[1], parts[0], rows[:, sizes[0] :])
    return parts, y, first, second


def fold(mine, other, rows):
    u, s, vh = (torch.from_numpy(part) for part in np.linalg.svd(mine, full_matrices=False))
    projected = vh @ torch.from_numpy(other).mT / s[..., None]
    kept = (s[:, None, :] > torch.from_numpy(ALPHAS)[:, None] * s[:, :1, None]).sum(-1)
    return FoldFit(rows.contiguous(), u, projected, kept)


def sklearn_losses(parts, y, first, second):
    """[problems, alphas]: pseudo-inverse of one fold at each relative cutoff, scored on the other."""
    found = np.zeros((len(first.rows), len(ALPHAS)))
    for i in range(len(found)):
        targets = [y[fold.rows[i]].numpy() for fold in (first, second)]
        mean = np.concatenate(targets).mean(0)
        for a, alpha in enumerate(ALPHAS):
            for fit in (0, 1):
                weights = np.linalg.pinv(parts[fit][i], rcond=alpha) @ (targets[fit] - mean)
                predicted = parts[1 - fit][i] @ weights
                found[i, a] += root_mean_squared_error(targets[1 - fit] - mean, predicted) / 2
    return found
