"""Global maps of folds of groups, against rows and singular value decompositions in NumPy."""

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.errors import InputError
from latentcmp.measures.fold_maps import fit_folds
from latentcmp.measures.strength_search import FoldRules, default_strengths
from latentcmp.systems.group_folds import leave_one_out
from tests.measures.fold_cases import FOLDS, block_moments, blocks, matrices, row_squares

CPU = torch.device("cpu")


def errors(rows: dict[str, np.ndarray], block: np.ndarray, rules: FoldRules) -> torch.Tensor:
    folds = block_moments(rows, block).joined(FOLDS.blocks)
    squares = sum(maps.squares() for maps in fit_folds(folds, leave_one_out(5), rules))
    assert isinstance(squares, torch.Tensor)
    return (squares / len(block)).sqrt()


@pytest.mark.parametrize("solver", ["ridge", "cutoff"])
def test_errors_are_those_of_rows(solver: str) -> None:
    rows, block = matrices(), blocks()
    grid = default_strengths(solver)  # type: ignore[arg-type]
    found = errors(rows, block, FoldRules.of(solver, None, CPU))  # type: ignore[arg-type]
    fold = np.array(FOLDS.fold_of_block)[block]
    expected = [[row_squares(x, y, fold, grid, solver).mean() ** 0.5 for y in rows.values()] for x in rows.values()]
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(found.numpy()[off], np.array(expected)[off], rtol=1e-9)
    np.testing.assert_allclose(found.diagonal().numpy(), np.diag(expected), rtol=1e-4, atol=1e-7)


def test_rows_are_tested_by_the_maps_of_the_others() -> None:
    rows, groups = matrices(), np.repeat(np.arange(60), 10).tolist()
    found = latentcmp.compare_features(rows, groups=groups, measures=["gfre"])
    fold = np.array(FOLDS.fold_of_block)[blocks()]
    squares = row_squares(rows["a"], rows["b"], fold, default_strengths(), "ridge")
    cell = found.gfre.summaries[0][1]
    assert cell.value == pytest.approx(squares.mean() ** 0.5, rel=1e-9)
    assert cell.median == pytest.approx(np.quantile(np.sqrt(squares), 0.5, method="lower"), rel=1e-9)
    of_groups = np.bincount(groups, squares)
    assert cell.culprit == str(of_groups.argmax())
    assert cell.share == pytest.approx(of_groups.max() / squares.sum(), rel=1e-9)


def test_small_errors_keep_their_digits_at_a_small_floor() -> None:
    """A matrix and its linear image: with strengths from 1e-5 their error is far below that from 1e-3."""
    rows = {"a": matrices()["a"]}
    rows["b"] = rows["a"] @ np.random.default_rng(1).normal(size=(8, 8))
    block = blocks()
    small = errors(rows, block, FoldRules.of("ridge", default_strengths(least=1e-5), CPU))
    usual = errors(rows, block, FoldRules.of("ridge", None, CPU))
    assert bool((small < 1e-5).all())
    assert bool((usual > 50 * small).all())


def test_bad_rules_are_named() -> None:
    with pytest.raises(InputError, match="solver must be one of cutoff, ridge, got 'lasso'"):
        FoldRules.of("lasso", None, CPU)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="relative strengths in"):
        FoldRules.of("ridge", np.array([2.0]), CPU)
    rows = matrices() | {"flat": np.ones((600, 2))}
    with pytest.raises(InputError, match="flat is constant over the 480 training rows of a fold"):
        errors(rows, blocks(), FoldRules.of("ridge", None, CPU))
