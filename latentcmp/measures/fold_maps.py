"""Global maps of each outer fold: fitted on the other folds of groups, and tested on this one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.measures.global_errors import GlobalMaps
from latentcmp.measures.global_paths import LinearMap
from latentcmp.measures.gram_source import GramSource
from latentcmp.measures.strength_search import FoldRules, select_strengths
from latentcmp.statistics.joint_moments import Scaled
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.systems.group_folds import Fold

TRAIN, TEST = 0, 1


@dataclass(frozen=True)
class FoldMaps:
    """The maps of one fold.

    Attributes:
        fold: its test parts and its training parts.
        maps: the maps between scaled matrices, with their errors on the test rows.
        scaled: Gram matrices of the training rows and of the test rows, centred and scaled on the training rows.
        penalties: {source: [n_targets]}, what ridge adds to eigenvalues of the scaled training Gram matrix.
        test_sums: [D], the sum of the scaled test rows.
    """

    fold: Fold
    maps: GlobalMaps
    scaled: Scaled
    penalties: dict[str, Tensor]
    test_sums: Tensor

    @property
    def n_test(self) -> int:
        """The number of test rows."""
        return self.scaled.counts[TEST]

    def squares(self, measure: str = "gfre") -> Tensor:
        """As `GlobalMaps.squares`."""
        return self.maps.squares(measure)

    def row_errors(self, source: str, rows: Mapping[str, Tensor], measure: str = "gfre") -> dict[str, Tensor]:
        """As `GlobalMaps.row_errors`."""
        return self.maps.row_errors(source, rows, measure)


def fit_folds(
    moments: PartMoments, folds: Sequence[Fold], rules: FoldRules, sources: Sequence[str] | None = None
) -> Iterator[FoldMaps]:
    """Fit the maps of every fold, one fold after the other.

    Args:
        moments: moments of the parts.
        folds: their test parts and training parts, as of `latentcmp.systems.group_folds`.
        rules: the solver and the grid of strengths.
        sources: names of the sources; None for all matrices. All matrices are targets.

    Raises:
        InputError: a matrix is constant over the training rows of a fold.
    """
    chosen = list(sources or moments.columns)
    for fold, strengths in zip(folds, select_strengths(moments, folds, rules, chosen), strict=True):
        yield _fit(moments, fold, rules, strengths)


def scale_fold(moments: PartMoments, fold: Fold) -> tuple[Scaled, Tensor]:
    """Return the Gram matrices of the training and the test rows of a fold, and the sum [D] of its test rows.

    All are centred and scaled on the training rows.

    Raises:
        InputError: a matrix is constant over the training rows.
    """
    mean, scalings = moments.mean(fold.training), moments.scalings(fold.training)
    scales = torch.stack([scaling.scale for scaling in scalings.values()])
    inverse = (1 / scales).repeat_interleave(torch.tensor(moments.widths, device=scales.device))
    both = (fold.training, fold.test)
    parts = torch.stack([moments.gram_about(parts, mean) for parts in both]).mul_(inverse[:, None]).mul_(inverse)
    scaled = Scaled(parts, tuple(map(moments.count, both)), moments.columns, scalings)
    return scaled, moments.sums_about(fold.test, mean) * inverse


def _fit(moments: PartMoments, fold: Fold, rules: FoldRules, strengths: dict[str, Tensor]) -> FoldMaps:
    scaled, test_sums = scale_fold(moments, fold)
    sources = {name: GramSource(scaled.parts, scaled.columns[name]) for name in strengths}
    sizes = torch.tensor(moments.widths, device=scaled.parts.device)

    def fit(name: str) -> tuple[LinearMap, Tensor]:
        train = scaled.parts[TRAIN, scaled.columns[name]]
        values, vectors = torch.linalg.eigh(train[:, scaled.columns[name]])
        filters = rules.filters(values, strengths[name]).mT.repeat_interleave(sizes, 1)
        return LinearMap(vectors, filters * (vectors.mT @ train)), strengths[name].square() * values[-1]

    fitted = map_over_cores(fit, list(strengths), scaled.parts.device)
    maps = {name: of_source for name, (of_source, _) in zip(strengths, fitted, strict=True)}
    penalties = {name: penalty for name, (_, penalty) in zip(strengths, fitted, strict=True)}
    return FoldMaps(fold, GlobalMaps(scaled, sources, maps, (TRAIN,), TEST), scaled, penalties, test_sums)
