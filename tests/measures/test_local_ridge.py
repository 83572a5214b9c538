"""Row errors of local ridge maps: the definition, the folds, batches, the grid of strengths."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from latentcmp.errors import InputError
from latentcmp.measures.local_ridge import checked_local_strengths, default_local_strengths, local_ridge_errors
from latentcmp.measures.nearest import nearest

SEED = 0x5F3759DF


def rows(n: int, width: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width)))


def make_problem(width: int, k: int, widths: tuple[int, ...] = (5, 3)):
    """x_train, x_test, targets and neighbours; targets are smooth functions of x and noise."""
    x_train, x_test = rows(90, width, 0), rows(13, width, 1)
    mixtures = [rows(width, columns, 2 + columns) for columns in widths]
    targets = [
        tuple(torch.tanh(x @ mixture) + 0.1 * rows(len(x), mixture.shape[1], len(x)) for x in (x_train, x_test))
        for mixture in mixtures
    ]
    return x_train, x_test, targets, nearest(x_train, x_test, k)


def numpy_errors(x_train, x_test, targets, neighbours, strengths):
    """Solves with NumPy for every row, strength and scikit-learn fold."""
    return [
        np.array([
            _error(x_train[near], query, y_train[near], y, strengths)
            for near, query, y in zip(neighbours.numpy(), x_test.numpy(), y_test.numpy(), strict=True)
        ])
        for y_train, y_test in targets
    ]  # fmt: skip


def _error(x, query, y, y_test, strengths):
    x, y = x.numpy(), y.numpy()
    x_mean, y_mean = x.mean(0), y.mean(0)
    folds = list(KFold(2, shuffle=True, random_state=SEED).split(x))
    losses = [
        sum(np.square(y[o] - y_mean - _predict(x[i] - x_mean, y[i] - y_mean, x[o] - x_mean, t)).sum() for i, o in folds)
        for t in strengths
    ]
    predicted = _predict(x - x_mean, y - y_mean, query - x_mean, strengths[int(np.argmin(losses))])
    return np.linalg.norm(y_test - y_mean - predicted)


def _predict(x, y, query, strength):
    gram = x @ x.T
    shift = strength**2 * np.linalg.eigvalsh(gram)[-1]
    return query @ x.T @ np.linalg.solve(gram + shift * np.eye(len(x)), y)


@pytest.mark.parametrize(("width", "k"), [(5, 2), (5, 3), (7, 7), (16, 9), (8, 8), (4, 21), (40, 12)])
def test_errors_are_those_of_the_definition(width: int, k: int) -> None:
    problem = make_problem(width, k)
    expected = numpy_errors(*problem, default_local_strengths())
    for found, wanted in zip(local_ridge_errors(*problem), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11)


def test_every_row_and_target_has_a_strength_of_its_own() -> None:
    problem = make_problem(8, 20)
    grid = default_local_strengths()
    alone = np.array([np.stack(local_ridge_errors(*problem, [strength])) for strength in grid])
    chosen = np.abs(alone - np.stack(local_ridge_errors(*problem, grid))).argmin(0)
    assert len(np.unique(chosen)) > 2
    assert (chosen[0] != chosen[1]).any()


def test_the_order_of_strengths_does_not_matter() -> None:
    problem = make_problem(8, 9)
    expected = local_ridge_errors(*problem, [0.1, 0.3, 0.7])
    for found, wanted in zip(local_ridge_errors(*problem, [0.7, 0.1, 0.3]), expected, strict=True):
        assert torch.equal(found, wanted)


def test_batch_size_and_threads_do_not_change_a_row() -> None:
    problem, before = make_problem(8, 11), torch.get_num_threads()
    expected = local_ridge_errors(*problem, batch_size=1)
    try:
        for threads, batch_size in ((1, 5), (2, 5), (2, 100), (1, None)):
            torch.set_num_threads(threads)
            found = local_ridge_errors(*problem, batch_size=batch_size)
            assert torch.get_num_threads() == threads
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    finally:
        torch.set_num_threads(before)


def test_the_reference_gives_the_errors_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem(12, 12, (12, 40))
    expected = local_ridge_errors(*problem)
    monkeypatch.setenv("LATENTCMP_BACKEND", "reference")
    for found, wanted in zip(local_ridge_errors(*problem, batch_size=4), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)


def test_a_shrunken_map_beats_an_exact_one_on_noise() -> None:
    x_train, x_test, _, neighbours = make_problem(6, 8)
    targets = [(rows(90, 5, 7), rows(13, 5, 8))]
    weak, strong = (local_ridge_errors(x_train, x_test, targets, neighbours, [t])[0] for t in (1e-4, 0.9))
    assert strong.square().mean() < weak.square().mean()


def test_no_test_rows() -> None:
    x_train, x_test, targets, neighbours = make_problem(6, 8)
    none = [(y_train, y_test[:0]) for y_train, y_test in targets]
    assert [part.shape for part in local_ridge_errors(x_train, x_test[:0], none, neighbours[:0])] == [(0,), (0,)]


def test_the_default_grid() -> None:
    np.testing.assert_allclose(default_local_strengths()[[0, 3, 6]], [0.1, 0.3, 0.9], rtol=1e-14)
    assert len(default_local_strengths()) == 7


@pytest.mark.parametrize("strengths", [[], [0.0], [1e-7, 0.5], [1.0], [float("nan")], [[0.1]], "much", [None]])
def test_strengths_out_of_range_are_an_input_error(strengths: object) -> None:
    with pytest.raises(InputError, match=r"strengths must be .* in \[1e-06, 1\)"):
        checked_local_strengths(strengths)


def test_bad_input_is_an_input_error() -> None:
    x_train, x_test, targets, neighbours = make_problem(6, 8)
    with pytest.raises(InputError, match="neighbours must be"):
        local_ridge_errors(x_train, x_test, targets, neighbours[:, :1])
    with pytest.raises(InputError, match="neighbours must be"):
        local_ridge_errors(x_train, x_test, targets, neighbours.int())
    with pytest.raises(InputError, match="x must be"):
        local_ridge_errors(x_train.float(), x_test, targets, neighbours)
    with pytest.raises(InputError, match="y_train must be"):
        local_ridge_errors(x_train, x_test, [(targets[0][0][1:], targets[0][1])], neighbours)
