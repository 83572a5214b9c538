"""Local ridge maps: every backend against NumPy, neighbourhoods without information, scales, strides, bad input."""

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.ops.local_ridge import local_ridge

from .local_ridge_cases import make_problem, numpy_errors

SIZES = [(2, 5), (3, 5), (4, 1), (7, 20), (9, 9), (16, 33), (33, 5), (40, 40), (57, 8)]
"""k and columns of the source: k below, equal to and above D, odd and even."""


@pytest.mark.parametrize("widths", [(5,), (1, 70, 16)])
@pytest.mark.parametrize(("k", "width"), SIZES)
def test_errors_are_those_of_the_definition(backend, k, width, widths):
    problem = make_problem(k, width, widths)
    np.testing.assert_allclose(local_ridge(*problem, backend=backend), numpy_errors(*problem), rtol=1e-11)


@pytest.mark.parametrize("strengths", [(0.5,), (1e-3, 0.01, 0.1, 0.3, 0.99), tuple(np.geomspace(1e-6, 0.9, 12))])
def test_any_number_of_strengths(backend, strengths):
    *problem, _ = make_problem(20, 30, (6, 12))
    problem.append(torch.tensor(strengths, dtype=torch.float64))
    # A strength of 1e-6 amplifies rounding of the Gram matrix by 1e12.
    tolerance = 1e-11 if min(strengths) > 1e-4 else 1e-5
    np.testing.assert_allclose(local_ridge(*problem, backend=backend), numpy_errors(*problem), rtol=tolerance)


@pytest.mark.parametrize("strength", [0, 3, 6])
def test_every_strength_of_the_grid_can_be_the_best(backend, strength):
    *problem, strengths = make_problem(12, 8, (5,))
    alone = [*problem, strengths[strength : strength + 1]]
    np.testing.assert_allclose(local_ridge(*alone, backend=backend), numpy_errors(*alone), rtol=1e-11)


def with_rows(problem, change):
    """The problem with the training rows of the source changed in place by change(rows of problem 0, x)."""
    x, query, rows, *rest = problem
    x = x.clone()
    change(rows[0], x)
    return x, query, rows, *rest


def _all_equal(near, x):
    x[near] = x[near[0]].clone()


def _pairs_equal(near, x):
    x[near[1::2]] = x[near[: len(near) // 2 * 2 : 2]]


def _two_places(near, x):
    x[near] = x[near[0]].clone()
    x[near[-3:]] += 1.0


@pytest.mark.parametrize("k", [2, 8, 33])
def test_equal_neighbours_predict_their_mean(backend, k):
    problem = with_rows(make_problem(k, 6, (5, 2), problems=1), _all_equal)
    _, _, rows, _, targets, _ = problem
    expected = [np.linalg.norm(y_test.numpy() - y.numpy()[rows].mean(1), axis=1) for y, y_test in targets]
    np.testing.assert_allclose(local_ridge(*problem, backend=backend), expected, rtol=1e-13)


@pytest.mark.parametrize("change", [_pairs_equal, _two_places])
@pytest.mark.parametrize("k", [8, 24])
def test_copies_among_the_neighbours(backend, k, change):
    problem = with_rows(make_problem(k, 6, (5, 2)), change)
    np.testing.assert_allclose(local_ridge(*problem, backend=backend), numpy_errors(*problem), rtol=1e-10)


@pytest.mark.parametrize("change", [_pairs_equal, _two_places, _all_equal])
@pytest.mark.parametrize("k", [2, 3, 8, 33])
def test_native_errors_of_copies_are_those_of_the_reference(backend, k, change):
    problem = with_rows(make_problem(k, 6, (5, 2)), change)
    expected = local_ridge(*problem, backend="reference")
    torch.testing.assert_close(local_ridge(*problem, backend=backend), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_a_fold_at_the_mean_of_all_rows_leaves_a_tie(backend, offset):
    problem = x, _, rows, _, _, strengths = make_problem(3, 4, (2,), problems=1)
    change = torch.tensor([0.0, 0.2, -0.2], dtype=torch.float64)[:, None]
    for seed in range(20):
        x[rows[0]] = change * torch.from_numpy(np.random.default_rng(seed).normal(size=4)) + offset  # but for rounding
        smallest = numpy_errors(*problem[:-1], strengths[:1])
        np.testing.assert_allclose(local_ridge(*problem, backend=backend), smallest, rtol=1e-10)


@pytest.mark.parametrize("target", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("source", [1e-200, 1e-30, 1e30, 1e200])
def test_scales_do_not_matter(backend, source, target):
    x, query, rows, n_first, targets, strengths = make_problem(11, 6, (5, 2))
    expected = local_ridge(x, query, rows, n_first, targets, strengths, backend=backend)
    scaled = [(y * target, y_test * target) for y, y_test in targets]
    found = local_ridge(x * source, query * source, rows, n_first, scaled, strengths, backend=backend)
    torch.testing.assert_close(found / target, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("offset", [1e3, 1e8])
def test_a_common_offset_costs_its_own_digits_only(backend, offset):
    x, query, rows, n_first, targets, strengths = make_problem(11, 6, (5,))
    expected = local_ridge(x, query, rows, n_first, targets, strengths, backend=backend)
    moved = [(y + offset, y_test + offset) for y, y_test in targets]
    found = local_ridge(x + offset, query + offset, rows, n_first, moved, strengths, backend=backend)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14 * offset)


@pytest.mark.parametrize("spread", [0.0, 5e-324, 1e-320, 1e-300, 1e-160, 1e-18])
@pytest.mark.parametrize("k", [2, 3, 12])
def test_close_neighbours_and_a_query_far_away_give_no_nan(backend, k, spread):
    x, query, rows, n_first, targets, strengths = make_problem(k, 6, (5, 2))
    x = (x > 0).double() * spread
    constant = [(torch.full_like(y, 3.0), y_test) for y, y_test in targets]
    for far in (1.0, 1e150, 1e300):
        for pairs in (targets, constant):
            errors = local_ridge(x, query * far, rows, n_first, pairs, strengths, backend=backend)
            assert not errors.isnan().any()


@pytest.mark.parametrize("value", [0.0, 2.5, -1e-310])
def test_constant_targets_have_their_distance_as_error(backend, value):
    x, query, rows, n_first, targets, strengths = make_problem(9, 6, (5,))
    constant = [(torch.full_like(y, value), y_test) for y, y_test in targets]
    found = local_ridge(x, query, rows, n_first, constant, strengths, backend=backend)
    torch.testing.assert_close(found[0], (targets[0][1] - value).norm(dim=1), rtol=1e-13, atol=0)


def test_ties_go_to_the_smallest_strength(backend):
    *problem, strengths = make_problem(10, 6, (5,))
    x, _, rows, n_first = problem[:4]
    x[rows[0, :n_first], 3:] = 0.0  # the folds of problem 0 are orthogonal about their mean, 0: no map helps
    x[rows[0, n_first:], :3] = 0.0
    x[rows[0, n_first - 1], :3] = -x[rows[0, : n_first - 1], :3].sum(0)
    x[rows[0, -1], 3:] = -x[rows[0, n_first:-1], 3:].sum(0)
    expected = local_ridge(*problem, strengths[:1], backend=backend)
    torch.testing.assert_close(
        local_ridge(*problem, strengths, backend=backend)[:, 0], expected[:, 0], rtol=1e-12, atol=0
    )


def test_strides_no_problems_and_no_targets(backend):
    x, query, rows, n_first, targets, strengths = problem = make_problem(8, 6, (5, 3))
    expected = local_ridge(*problem, backend=backend)
    found = local_ridge(
        *(_apart(part) for part in (x, query)),
        rows.T.contiguous().T,
        n_first,
        [(_apart(targets[0][0]), targets[0][1].T.contiguous().T), tuple(_apart(part) for part in targets[1])],
        strengths.repeat_interleave(2)[::2],
        backend=backend,
    )
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    none = [(y, y_test[:0]) for y, y_test in targets]
    assert local_ridge(x, query[:0], rows[:0], n_first, none, strengths, backend=backend).shape == (2, 0)
    assert local_ridge(x, query, rows, n_first, [], strengths, backend=backend).shape == (0, 5)


def _apart(rows):
    """The same rows between columns of NaN."""
    wide = torch.full((len(rows), rows.shape[1] + 5), float("nan"), dtype=torch.float64)
    wide[:, 2:-3] = rows
    return wide[:, 2:-3]


def test_nan_affects_its_own_problem_and_target_only():
    x, query, rows, n_first, targets, strengths = make_problem(8, 6, (5, 3))
    expected = local_ridge(x, query, rows, n_first, targets, strengths, backend="cpu")
    targets[1][1][2, 0] = float("nan")
    query[4] = float("nan")
    found = local_ridge(x, query, rows, n_first, targets, strengths, backend="cpu")
    assert found.isnan().tolist() == [[False] * 4 + [True], [False, False, True, False, True]]
    assert torch.equal(found[:, :2], expected[:, :2])


def test_narrower_instruction_sets_agree(run_narrowed, tmp_path):
    problem = make_problem(21, 30, (5, 70))
    torch.save(problem, tmp_path / "problem.pt")
    run_narrowed(
        "from latentcmp.ops.local_ridge import local_ridge\n"
        "torch.save(local_ridge(*torch.load('problem.pt'), backend='cpu'), 'errors.pt')\n"
    )
    np.testing.assert_allclose(torch.load(tmp_path / "errors.pt"), numpy_errors(*problem), rtol=1e-11)


BAD = {
    "x is float32": (lambda x, q, r, n, t, s: (x.float(), q, r, n, t, s), "x must be"),
    "no columns": (lambda x, q, r, n, t, s: (x[:, :0], q[:, :0], r, n, t, s), "not empty"),
    "query is short": (lambda x, q, r, n, t, s: (x, q[1:], r, n, t, s), "query must be"),
    "query is float32": (lambda x, q, r, n, t, s: (x, q.float(), r, n, t, s), "query must be"),
    "rows are int32": (lambda x, q, r, n, t, s: (x, q, r.int(), n, t, s), "rows must be"),
    "an empty fold": (lambda x, q, r, n, t, s: (x, q, r, 8, t, s), "n_first must be 1 to 7 of 8 rows, got 8"),
    "strengths are float32": (lambda x, q, r, n, t, s: (x, q, r, n, t, s.float()), "strengths must be"),
    "no strengths": (lambda x, q, r, n, t, s: (x, q, r, n, t, s[:0]), "strengths must be"),
    "y_train is short": (lambda x, q, r, n, t, s: (x, q, r, n, [(t[0][0][1:], t[0][1])], s), "y_train must be"),
    "y_test is float32": (lambda x, q, r, n, t, s: (x, q, r, n, [(t[0][0], t[0][1].float())], s), "y_test must be"),
    "another device": (lambda x, q, r, n, t, s: (x, q, r, n, t, s.to("meta")), "x's device"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_input_error(case):
    change, message = BAD[case]
    with pytest.raises(InputError, match=message):
        local_ridge(*change(*make_problem()))
