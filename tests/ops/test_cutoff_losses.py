"""Two-fold losses: every backend against NumPy and scikit-learn."""

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.ops.cutoff_losses import cutoff_losses

from .cutoff_losses_cases import make_problem, sklearn_losses

SIZES = {"even": (6, 6), "odd": (5, 6), "one row": (1, 1), "tall": (14, 15), "wider than a block": (24, 25)}


@pytest.mark.parametrize("columns", [1, 32, 45])
@pytest.mark.parametrize("sizes", SIZES)
def test_losses_agree_with_numpy_and_scikit_learn(backend, sizes, columns):
    problem = make_problem(SIZES[sizes], columns)
    np.testing.assert_allclose(cutoff_losses(*problem[1:], backend=backend), sklearn_losses(*problem), rtol=1e-10)


def test_equal_cuts_have_equal_bits(backend):
    _, y, first, second = make_problem()
    first, second = (fold._replace(kept=torch.full_like(fold.kept, 3)) for fold in (first, second))
    losses = cutoff_losses(y, first, second, backend=backend)
    assert torch.equal(losses, losses[:, :1].expand_as(losses))


def test_directions_beyond_the_cut_are_never_read(backend):
    _, y, first, second = make_problem()
    expected = cutoff_losses(y, first, second, backend=backend)
    kept = int(torch.maximum(first.kept, second.kept).max())
    changed = [fold._replace(projected=fold.projected.clone(), directions=fold.directions) for fold in (first, second)]
    for fold in changed:
        fold.projected[:, kept:] = float("inf")
    assert torch.equal(cutoff_losses(y, *changed, backend=backend), expected)


def test_strides_and_no_problems(backend):
    _, y, first, second = make_problem()
    expected = cutoff_losses(y, first, second, backend=backend)
    apart = torch.full((50, 20), float("nan"), dtype=torch.float64)
    apart[:, 4:11] = y
    turned = first._replace(directions=first.directions.mT.contiguous().mT, rows=first.rows.T.contiguous().T)
    torch.testing.assert_close(cutoff_losses(apart[:, 4:11], turned, second, backend=backend), expected)
    none = [type(fold)(*(part[:0] for part in fold)) for fold in (first, second)]
    assert cutoff_losses(y, *none, backend=backend).shape == (0, expected.shape[1])


def test_narrower_instruction_sets_agree(run_narrowed, tmp_path):
    problem = make_problem((14, 15), 45)
    torch.save(problem[1:], tmp_path / "problem.pt")
    run_narrowed(
        "from latentcmp.ops.cutoff_losses import cutoff_losses\n"
        "problem = torch.load('problem.pt', weights_only=False)\n"
        "torch.save(cutoff_losses(*problem, backend='cpu'), 'losses.pt')\n"
    )
    np.testing.assert_allclose(torch.load(tmp_path / "losses.pt"), sklearn_losses(*problem), rtol=1e-10)


BAD = {
    "y is float32": (lambda y, a, b: (y.float(), a, b), "y must be"),
    "rows are int32": (lambda y, a, b: (y, a._replace(rows=a.rows.int()), b), "rows must be"),
    "one direction short": (lambda y, a, b: (y, a._replace(directions=a.directions[..., 1:]), b), "projected must be"),
    "other problems": (lambda y, a, b: (y, a, type(b)(*(part[1:] for part in b))), "same alphas"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_input_error(case):
    change, message = BAD[case]
    with pytest.raises(InputError, match=message):
        cutoff_losses(*change(*make_problem()[1:]))
