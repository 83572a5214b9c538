"""Intervals of global errors by a delete-a-block jackknife, every map fitted again without the block.

For J blocks of groups the error without block j is e_j, and the standard error of log e is that of Efron and Stein,
se^2 = (J - 1) / J sum_j (log e_j - mean)^2 (Ann. Statist. 9, 586 (1981)). The interval is e exp(+- t se) with the
quantile t of Student's distribution with J - 1 degrees of freedom. Strengths are held at those chosen with all blocks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.measures.fold_maps import TEST, TRAIN, FoldMaps
from latentcmp.statistics.part_moments import PartMoments

T_95 = (6.3138, 2.9200, 2.3534, 2.1318, 2.0150, 1.9432, 1.8946, 1.8595, 1.8331, 1.8125,
        1.7959, 1.7823, 1.7709, 1.7613, 1.7531, 1.7459, 1.7396, 1.7341, 1.7291)  # fmt: skip
"""The 95 % quantiles of Student's distribution with 1 to 19 degrees of freedom."""

EPS = torch.finfo(torch.float64).eps


class Deleted(NamedTuple):
    """Errors of one fold without each block.

    Attributes:
        squares: [n_blocks, n_sources, n_targets] sums of squared errors of the test rows that are left.
        counts: [n_blocks] numbers of those rows.
    """

    squares: Tensor
    counts: Tensor


def delete_blocks(fold: FoldMaps, blocks: PartMoments, of_fold: list[tuple[int, ...]]) -> Deleted:
    """Return the errors of a fold without each block in turn.

    Args:
        fold: the maps of a fold, fitted with ridge.
        blocks: moments of the blocks.
        of_fold: the blocks of each part that `fold` names.
    """
    tested = [block for part in fold.fold.test for block in of_fold[part]]
    training = [block for part in fold.fold.training for block in of_fold[part]]
    names, without, device = fold.maps.sources, _Without.of(fold, blocks, training), blocks.grams.device
    each = blocks.sums.new_empty(len(blocks.counts), len(names), len(blocks.columns))
    each[tested] = torch.stack(map_over_cores(lambda name: without.tested(name, tested), names, device), 1)
    reduced = dict(zip(names, map_over_cores(without.reduce_test_rows, names, device), strict=True))
    tasks = [(block, name) for block in training for name in names]
    refitted = map_over_cores(lambda task: without.training(*task, reduced[task[1]]), tasks, device)
    each[training] = torch.stack(refitted).unflatten(0, (-1, len(names)))
    counts = [fold.n_test - (blocks.counts[b] if b in tested else 0) for b in range(len(blocks.counts))]
    return Deleted(each.cpu(), torch.tensor(counts))


def interval(value: Tensor, folds: list[Deleted]) -> tuple[Tensor, Tensor]:
    """Return the ends of the 90 % intervals of errors [n_sources, n_targets], from all folds without each block."""
    squares = torch.stack([fold.squares for fold in folds]).sum(0)
    counts = torch.stack([fold.counts for fold in folds]).sum(0)[:, None, None]
    logs = (squares.clamp(min=torch.finfo(squares.dtype).tiny) / counts).log() / 2
    n_blocks = len(logs)
    spread = ((n_blocks - 1) / n_blocks * (logs - logs.mean(0)).square().sum(0)).sqrt()
    factor = (T_95[min(n_blocks - 1, len(T_95)) - 1] * spread).exp()
    return value / factor, value * factor


class _Reduced(NamedTuple):
    """Test rows of a source [D_X, D_X] and of all targets [D_X, D], with the inner products of all test rows."""

    source: Tensor
    targets: Tensor


@dataclass(frozen=True)
class _Without:
    """Errors without a block, from the blocks about the training mean of a fold, in its scale.

    Attributes:
        fold: the maps of the fold.
        columns: the columns of each matrix.
        counts: rows of each block.
        grams: [n_blocks, D, D] about the pivot, not scaled.
        mean: [D], the training mean less the pivot.
        sums: [n_blocks, D].
        squares: [n_blocks, n_targets].
        scales: of each matrix.
    """

    fold: FoldMaps
    columns: dict[str, slice]
    counts: tuple[int, ...]
    grams: Tensor
    mean: Tensor
    sums: Tensor
    squares: Tensor
    scales: dict[str, float]

    @classmethod
    def of(cls, fold: FoldMaps, blocks: PartMoments, training: list[int]) -> "_Without":
        scales = {name: float(scaling.scale) for name, scaling in fold.scaled.scalings.items()}
        widths = torch.tensor(blocks.widths)
        units = torch.tensor(list(scales.values()), dtype=torch.float64).repeat_interleave(widths).to(blocks.sums)
        mean, n = blocks.mean(training), torch.tensor(blocks.counts)[:, None].to(blocks.sums)
        diagonals = blocks.grams.diagonal(dim1=1, dim2=2) - 2 * mean * blocks.sums + n * mean.square()
        squares = _by_target(diagonals / units.square(), blocks.columns)
        sums = (blocks.sums - n * mean) / units
        return cls(fold, blocks.columns, blocks.counts, blocks.grams, mean / units, sums, squares, scales)

    def tested(self, name: str, blocks: list[int]) -> Tensor:
        """Squared errors [n_blocks, n_targets] under the maps as they are, without the test rows of each block."""
        directions, weights = self.fold.maps.maps[name]
        maps = {target: directions @ weights[:, y] for target, y in self.columns.items()}
        outer = {target: of_target @ of_target.mT for target, of_target in maps.items()}
        totals = _by_target(self.fold.scaled.parts[TEST].diagonal(), self.columns)
        squares = totals - self.squares[blocks]
        for row, block in zip(squares, blocks, strict=True):
            shift = self._shift(block)
            own = self._gram(TEST, block, shift, name, name)
            for column, (target, of_target) in enumerate(maps.items()):
                row[column] += _dot(outer[target], own)
                row[column] -= 2 * _dot(of_target, self._gram(TEST, block, shift, name, target))
        return squares.clamp_(min=0)

    def reduce_test_rows(self, name: str) -> _Reduced:
        """Reduce the test rows to as many as the source has columns; errors of its maps differ by a constant."""
        test = self.fold.scaled.parts[TEST, self.columns[name]]
        values, vectors = torch.linalg.eigh(test[:, self.columns[name]])
        roots = values.clamp(min=EPS * values[-1]).sqrt()[:, None]
        return _Reduced(roots * vectors.mT, (vectors.mT @ test).div_(roots))

    def training(self, block: int, name: str, test: _Reduced) -> Tensor:
        """Squared errors [n_targets] of maps fitted again without a block of training rows."""
        n_train, n_test = self.fold.scaled.counts
        n, x, sums = n_train - self.counts[block], self.columns[name], self.fold.test_sums
        moved = -self.sums[block] / n  # the new training mean, less the old one
        left, right = self._shift(block)
        shift = torch.cat([left, moved[:, None]], 1), torch.cat([right, -n * moved[None]])
        rows, squares = torch.cat([test.source, sums[None, x], moved[None, x]]), []
        own = self._gram(TRAIN, block, shift, name, name)
        predict = _Ridge(own, rows)
        for (target, y), penalty in zip(self.columns.items(), self.fold.penalties[name].tolist(), strict=True):
            crossed = own if target == name else self._gram(TRAIN, block, shift, name, target)
            predicted = predict(penalty * n / n_train, crossed)
            of_rows, residual, change = predicted[:-2], sums[y] - predicted[-2], moved[y] - predicted[-1]
            squares.append(_dot(of_rows, of_rows - 2 * test.targets[:, y]) + change @ (n_test * change - 2 * residual))
        totals, spread = (_by_target(self.fold.scaled.parts[part].diagonal(), self.columns) for part in (TEST, TRAIN))
        spread = (spread - self.squares[block] - n * _by_target(moved.square(), self.columns)) / n
        return (totals + torch.stack(squares)).clamp(min=0) / spread

    def _gram(self, part: int, block: int, shift: tuple[Tensor, Tensor], source: str, target: str) -> Tensor:
        """The Gram matrix [D_X, D_Y] of the rows of a part without a block."""
        x, y = self.columns[source], self.columns[target]
        unit = self.scales[source] * self.scales[target]
        without = torch.sub(self.fold.scaled.parts[part, x, y], self.grams[block, x, y], alpha=1 / unit)
        return without.addmm_(shift[0][x], shift[1][:, y])

    def _shift(self, block: int) -> tuple[Tensor, Tensor]:
        """Factors [D, 2] and [2, D] of the Gram matrix of a block about the pivot less that about the mean."""
        left = torch.stack([self.sums[block] + self.counts[block] / 2 * self.mean, self.mean], 1)
        return left, left.flip(1).mT


class _Ridge:
    """Predictions of ridge maps at rows [m, D_X], given the Gram matrix of training rows and those with the targets."""

    def __init__(self, gram: Tensor, rows: Tensor) -> None:
        self.gram, self.rows, self.solved = gram, rows, dict[float, Tensor]()

    def __call__(self, penalty: float, crossed: Tensor) -> Tensor:
        if penalty not in self.solved:
            lifted = self.gram.clone()
            lifted.diagonal().add_(penalty)
            self.solved[penalty] = torch.cholesky_solve(self.rows.mT, torch.linalg.cholesky(lifted)).mT
        return self.solved[penalty] @ crossed


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())


def _by_target(columns: Tensor, of_target: dict[str, slice]) -> Tensor:
    """Sums [..., n_targets] over the columns [..., D] of each target."""
    return torch.stack([columns[..., y].sum(-1) for y in of_target.values()], -1)
