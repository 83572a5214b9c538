"""Distance correlation: dependence between the pairwise distances of two feature matrices, linear or not."""

from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores
from latentcmp.errors import InputError
from latentcmp.measures.matrices import Matrix, like, paired
from latentcmp.measures.nearest import exact_squared_distances
from latentcmp.statistics.augmented import check_spread

_BLOCK = 1 << 19, 1 << 22  # distances of a matrix that are held at a time, on a CPU (near the caches of a core), else
_PIECES = 16  # partial sums, the same for any number of cores
_CLOSE = 2e-4  # squared distance over squared length, below which products lose more than four digits
_PAIRS = 1 << 12  # close pairs whose differences are held at a time


@overload
def distance_correlation(X: Tensor, Y: Tensor, *, unbiased: bool = ...) -> Tensor: ...


@overload
def distance_correlation(X: np.ndarray, Y: np.ndarray, *, unbiased: bool = ...) -> np.float64: ...


def distance_correlation(X: Matrix, Y: Matrix, *, unbiased: bool = False) -> Tensor | np.float64:
    """Distance correlation of two matrices with the same rows, 0 to 1.

    With the Euclidean distances a of the rows of X and b of those of Y, both double-centred to A and B, it is
    sqrt(sum AB / sqrt(sum AA sum BB)) (Szekely, Rizzo & Bakirov, Ann. Stat. 35, 2769 (2007)). The memory grows with
    the number of rows, not with its square.

    Args:
        X: [n, D_X], a tensor or an array.
        Y: [n, D_Y], of the same kind.
        unbiased: centre by the U-statistic instead and return the squared correlation, which is 0 on average for
            independent rows and can be negative (Szekely & Rizzo, Ann. Stat. 42, 2382 (2014)); needs 4 rows.

    Returns:
        A scalar in float64 of the kind of X.

    Raises:
        InputError: the matrices do not hold the same finite rows, or all rows of one are equal.

    Example:
        >>> import numpy as np
        >>> from latentcmp import similarity
        >>> x = np.arange(5.0)[:, None]
        >>> print(round(similarity.distance_correlation(x, -x), 6), round(similarity.distance_correlation(x, x**2), 6))
        1.0 0.971695
    """
    pair = paired(X, Y)
    value: Tensor | np.float64 = like(X, distance_correlations(pair, unbiased)[0, 1])
    return value


def distance_correlations(matrices: Mapping[str, Tensor], unbiased: bool = False) -> Tensor:
    """`distance_correlation` of all pairs of matrices {name: [n, D]}: [n_names, n_names] float64.

    The sums of products of centred distances follow from those of the distances and from their row sums (Huo &
    Szekely, Technometrics 58, 435 (2016)), so that one pass over the pairs of rows serves all matrices.
    """
    n = len(next(iter(matrices.values())))
    if n < (4 if unbiased else 2):
        raise InputError(f"distance correlation needs at least {4 if unbiased else 2} rows, got {n}")
    sums, products = _sums([_scaled(name, values.double()) for name, values in matrices.items()])
    if not unbiased:  # the diagonal: distances 0, less 1
        sums, products = sums - 1, products + n
    total, of_row = sums.sum(1), n - 2 if unbiased else n
    of_all = (n - 1) * (n - 2) if unbiased else n * n
    centred = products - 2 / of_row * (sums @ sums.T) + total[:, None] * total / of_all
    norms = centred.diagonal().sqrt()
    squared = centred / (norms[:, None] * norms)
    return squared if unbiased else squared.clamp(min=0).sqrt()


def _scaled(name: str, values: Tensor) -> Tensor:
    """Rows about their mean, the root mean square of all their distances 1."""
    mean = values.mean(0)
    centred = values - mean
    spread = centred.norm() / len(values) ** 0.5
    check_spread(name, spread, mean, f"{len(values)} rows")
    scaled: Tensor = centred / (2**0.5 * spread)
    return scaled


def _sums(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Row sums [n_names, n] and products of all pairs [n_names, n_names] of `_distances`."""
    n, device = len(rows[0]), rows[0].device
    step = max(1, _BLOCK[device.type != "cpu"] // n)
    starts = range(0, n, step)
    pieces = [starts[piece::_PIECES] for piece in range(min(_PIECES, len(starts)))]
    parts = map_over_cores(lambda piece: _sums_of_blocks(rows, piece, step), pieces, device)
    sums, products = zip(*parts, strict=True)
    return torch.stack(sums).sum(0), torch.stack(products).sum(0)


def _sums_of_blocks(rows: Sequence[Tensor], starts: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
    """The part of `_sums` from `step` rows at each start and all later rows: both triangles from the upper one."""
    n_names, n = len(rows), len(rows[0])
    norms = [torch.linalg.vecdot(x, x) for x in rows]
    memory = rows[0].new_empty(n_names, step * n)
    sums, products = rows[0].new_zeros(n_names, n), rows[0].new_zeros(n_names, n_names)
    for start in starts:
        m = min(step, n - start)
        block = memory[:, : m * (n - start)].view(n_names, m, n - start)
        for x, squares, out in zip(rows, norms, block, strict=True):
            _distances(x[start:], squares[start:], out)
        sums[:, start : start + m] += block.sum(2)
        sums[:, start + m :] += block[:, :, m:].sum(1)
        products += 2 * _gram(block) - _gram(block[:, :, :m])
    return sums, products


def _gram(block: Tensor) -> Tensor:
    """Inner products [n_names, n_names] of matrices [n_names, m, w]."""
    flat = block.flatten(1)
    return flat @ flat.T


def _distances(rows: Tensor, norms: Tensor, out: Tensor) -> None:
    """Put the distances of the first rows to all rows [n, D], less 1, into out [m, n]; 0 for a row and itself.

    They are measured from 1, their root mean square, which the centring removes: the sums of products cancel less.
    Distances by products lose digits where rows are close to each other for their lengths; those are taken from
    differences.
    """
    m = len(out)
    torch.addmm(norms, rows[:m], rows.T, alpha=-2, out=out)
    out.add_(norms[:m, None]).diagonal().fill_(torch.inf)
    i, j = (out < _CLOSE * norms[:m, None]).nonzero(as_tuple=True)
    pairs = zip(i.split(_PAIRS), j.split(_PAIRS), strict=True)
    out[i, j] = torch.cat([exact_squared_distances(rows[some], rows[others]) for some, others in pairs])
    out.sqrt_().sub_(1).diagonal().zero_()
