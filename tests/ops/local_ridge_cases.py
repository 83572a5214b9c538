"""Small local problems and their errors from NumPy, written out row by row from the definition."""

import numpy as np
import torch

STRENGTHS = np.geomspace(0.1, 0.9, 7)
N_TRAIN = 60


def make_problem(k=8, width=6, widths=(5,), problems=5, seed=0):
    """Arguments of `local_ridge` but for the strengths, on noisy targets, and these."""
    rng = np.random.default_rng(seed)
    x, query = rng.normal(size=(N_TRAIN, width)), rng.normal(size=(problems, width))
    rows = np.stack([rng.permutation(N_TRAIN)[:k] for _ in range(problems)])
    targets = [tuple(_target(rng, part, columns, seed) for part in (x, query)) for columns in widths]
    on_torch = [tuple(torch.from_numpy(part) for part in pair) for pair in targets]
    return *(torch.from_numpy(part) for part in (x, query, rows)), k // 2, on_torch, torch.from_numpy(STRENGTHS)


def _target(rng, x, columns, seed):
    mixture = np.random.default_rng((seed, columns)).normal(size=(x.shape[1], columns))
    return np.tanh(x @ mixture) + 0.3 * rng.normal(size=(len(x), columns)) + 1.0


def numpy_errors(x, query, rows, n_first, targets, strengths):
    """[n_targets, problems]: eigenvalues and solves for every row, strength and fold; residuals are formed."""
    x, query, rows, strengths = (part.numpy() for part in (x, query, rows, strengths))
    return np.array([
        [_error(x[near], q, y[near].numpy(), y_row.numpy(), n_first, strengths)
         for near, q, y_row in zip(rows, query, y_test, strict=True)]
        for y, y_test in targets
    ])  # fmt: skip


def _error(x, query, y, y_test, n_first, strengths):
    query, y_test = query - x.mean(0), y_test - y.mean(0)
    x, y = x - x.mean(0), y - y.mean(0)
    gram, first, second = x @ x.T, np.arange(n_first), np.arange(n_first, len(x))
    turns = (first, second), (second, first)
    losses = [sum(_squared_error(gram, y, *turn, strength) for turn in turns) for strength in strengths]
    return np.linalg.norm(y_test - query @ x.T @ _inverse_times(gram, y, strengths[np.argmin(losses)]))


def _squared_error(gram, y, fitted, held_out, strength):
    predicted = gram[np.ix_(held_out, fitted)] @ _inverse_times(gram[np.ix_(fitted, fitted)], y[fitted], strength)
    return np.square(y[held_out] - predicted).sum()


def _inverse_times(gram, y, strength):
    top = np.linalg.eigvalsh(gram)[-1]
    return np.linalg.solve(gram + strength**2 * top * np.eye(len(gram)), y) if top > 0 else 0 * y
