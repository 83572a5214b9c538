"""Gram matrices where rounding allows, singular values of the rows where it does not: the same maps."""

import numpy as np
import pytest
import torch
from sklearn.metrics import root_mean_squared_error

from latentcmp.measures.cross_validation import default_alphas
from latentcmp.measures.local_cutoff import LocalFolds, factors_of_gram, factors_of_rows, local_weights
from latentcmp.ops.gram_spectra import gram_spectra
from latentcmp.ops.gram_spectra.reference import spectrum_of_gram

K, WIDTH, N_FIRST = 12, 15, 6
SMALLEST = (1e-1, 1e-3, 1e-6, 1e-9, 1e-13)


def neighbourhoods(smallest=SMALLEST, seed=0):
    """Centred rows [problems, K, WIDTH], the singular values of each down to one of `smallest` of the largest."""
    rng = np.random.default_rng(seed)
    rows = []
    for least in smallest:
        u, _, vh = np.linalg.svd(rng.normal(size=(K, WIDTH)), full_matrices=False)
        centred = (u * np.geomspace(1, least, K)) @ vh
        rows.append(centred - centred.mean(0))
    return torch.from_numpy(np.stack(rows))


def decomposed(x):
    rows = torch.arange(len(x) * K).reshape(len(x), K)
    return gram_spectra(x.flatten(0, 1), rows, N_FIRST), rows


def folds_of(x, alphas=None):
    near, rows = decomposed(x)
    return LocalFolds(near, rows, torch.from_numpy(default_alphas() if alphas is None else alphas))


def test_both_factorisations_agree_where_rows_are_well_conditioned():
    x, others = neighbourhoods((0.1, 0.05)), torch.randn(2, 4, WIDTH, dtype=torch.float64)
    gram = factors_of_gram(spectrum_of_gram(x @ x.mT, K - 1), x @ others.mT)
    rows = factors_of_rows(x, others, K - 1)
    torch.testing.assert_close(gram.s, rows.s, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gram.u @ gram.projected, rows.u @ rows.projected, rtol=1e-10, atol=1e-10)


def test_the_strength_is_that_of_singular_value_decompositions():
    x = neighbourhoods()
    y = torch.tanh(x * 3).reshape(-1, WIDTH) + 0.01 * torch.from_numpy(
        np.random.default_rng(1).normal(size=(len(x) * K, WIDTH))
    )
    expected = [best_strength(*problem) for problem in zip(x.numpy(), y.reshape(len(x), K, WIDTH).numpy(), strict=True)]
    np.testing.assert_allclose(folds_of(x).strength(y), expected, rtol=1e-9)


def best_strength(x, y):
    """The strength of least two-fold loss of one neighbourhood, by singular value decompositions."""
    y = y - y.mean(0)
    first, second = (slice(0, N_FIRST), slice(N_FIRST, K))
    top = max(np.linalg.svd(x[fold], compute_uv=False)[0] for fold in (first, second))
    losses = np.zeros(len(default_alphas()))
    for fit, other in ((first, second), (second, first)):
        u, s, vh = np.linalg.svd(x[fit], full_matrices=False)
        for a, alpha in enumerate(default_alphas()):
            kept = s > max(alpha * top, WIDTH * np.finfo(float).eps)
            predicted = x[other] @ (vh[kept].T / s[kept]) @ (u[:, kept].T @ y[fit])
            losses[a] += root_mean_squared_error(y[other], predicted)
    return top * default_alphas()[losses.argmin()]


def test_only_problems_uncertain_are_decomposed():
    x = neighbourhoods()
    spreads = [torch.linalg.svdvals(part) for part in (x[:, :N_FIRST], x[:, N_FIRST:])]
    visible = torch.minimum(*(s[:, -1] for s in spreads)) > 1e-4 * torch.maximum(*(s[:, 0] for s in spreads))
    assert visible.any()
    assert not visible.all()
    assert torch.equal(folds_of(x).condition > 0, visible)
    # Where no alpha reaches the directions that rounding blurs, there is no doubt.
    assert (folds_of(x, np.array([0.01, 0.1])).condition > 0).all()


@pytest.mark.parametrize("cut", [0.0, 3e-10, 2e-7, 5e-4, 0.3])
def test_weights_are_those_of_the_pseudo_inverse(cut):
    x = neighbourhoods()
    query = torch.from_numpy(np.random.default_rng(2).normal(size=(len(x), WIDTH)))
    least = max(cut, 1e-12)  # a sum of K centred rows is zero but for rounding
    strengths = least * torch.linalg.svdvals(x)[:, :1]
    found = local_weights(decomposed(x)[0], query, strengths)[:, 0]
    for rows, point, weights in zip(x.numpy(), query.numpy(), found.numpy(), strict=True):
        expected = point @ np.linalg.pinv(rows, rcond=least)
        # What is predicted counts: weights of 1 / s carry the rounding of the rows, eps / s.
        scale = np.abs(expected).max()
        smallest_kept = (s := np.linalg.svd(rows, compute_uv=False))[s > least * s[0]][-1] / s[0]
        np.testing.assert_allclose(weights, expected, rtol=0, atol=scale * (1e-9 + 1e-14 / smallest_kept))
