"""Global errors against the number of training groups, from the moments of blocks."""

import torch
from torch import Tensor

from latentcmp.measures.fold_maps import fit_folds
from latentcmp.measures.strength_search import FoldRules
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.systems.group_folds import Fold, GroupFolds

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1)
BLOCKS_OF_FOLD = 4
WIDEST = 1024  # columns: the factorisations of wider matrices take longer than all else


def learning_curve(blocks: PartMoments, folds: GroupFolds, rules: FoldRules) -> dict[float, Tensor]:
    """Return the errors of maps that are fitted on a part of the training groups, tested on all rows.

    Args:
        blocks: moments of the blocks.
        folds: the fold of each block, with four blocks each; other folds have no curve.
        rules: the solver and the grid of strengths.

    Returns:
        {fraction of the training groups: errors [n, n]}; empty for other folds, and for matrices of more than 1024
        columns.
    """
    if any(len(of_fold) != BLOCKS_OF_FOLD for of_fold in folds.blocks) or max(blocks.widths) > WIDEST:
        return {}
    return {fraction: _errors(blocks, folds.blocks, rules, fraction) for fraction in FRACTIONS}


def _errors(blocks: PartMoments, of_folds: list[tuple[int, ...]], rules: FoldRules, fraction: float) -> Tensor:
    folds = [_fold(of_folds, number, fraction) for number in range(len(of_folds))]
    squares = torch.stack([maps.squares() for maps in fit_folds(blocks, folds, rules)]).sum(0)
    return (squares / sum(blocks.counts)).sqrt()


def _fold(of_folds: list[tuple[int, ...]], number: int, fraction: float) -> Fold:
    """A fold of which some training blocks are left out, as many of every inner fold where that is possible."""
    others = [of_folds[(number + step) % len(of_folds)] for step in range(1, len(of_folds))]
    kept = max(1, round(fraction * BLOCKS_OF_FOLD))
    n_inner = max(2, round(fraction * BLOCKS_OF_FOLD * len(others)) // kept)
    inner = others[:: max(1, len(others) // n_inner)][:n_inner]
    return Fold(of_folds[number], tuple(blocks[:kept] for blocks in inner))
