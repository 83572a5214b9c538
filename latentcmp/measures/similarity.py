"""Similarities of feature matrices, from the joint statistics alone: no further pass over the rows.

Every function takes a `JointStatistics` and looks at its training rows, or with `part="test"` at its test rows, about
their own mean. Matrices [n_names, n_names] are symmetric; all results are float64 on the CPU, in the order of `widths`.
All raise InputError for fewer than 2 rows, a matrix that is constant over them, and values that were not finite.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.measures.procrustes import orthogonal_map, padded
from latentcmp.statistics.augmented import Centred
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Part

Kind = Literal["entropy", "participation"]
CUTOFF = 1e-9  # of the largest singular value: the smallest relative strength of the reconstruction errors


def linear_cka(statistics: JointStatistics, *, debiased: bool = False, part: Part = "train") -> Tensor:
    """Centred kernel alignment with the linear kernel, ||X'Y||_F^2 / (||X'X||_F ||Y'Y||_F): [n_names, n_names].

    Kornblith et al., ICML 2019, arXiv 1905.00414. With few rows for its columns it is close to 1 for anything:
    `debiased` takes the unbiased estimator of HSIC (Song et al., JMLR 13, 1393 (2012)) instead, which is 0 on
    average for unrelated rows, can be negative, and needs 4 rows. Raises InputError where it is undefined.
    """
    centred = statistics.compute().centred(part)
    blocks = list(centred.factors.values())
    aligned = _pairwise(blocks, lambda x, y: (x.T @ y).square().sum())
    if debiased:
        aligned = _unbiased(aligned, centred)
        if not bool((aligned.diagonal() > 64 * torch.finfo(torch.float64).eps).all()):
            raise InputError(
                f"debiased CKA is undefined: all {centred.n_rows} {part} rows of some matrix are equally far from each "
                "other; give more rows"
            )
    norms = aligned.diagonal().sqrt()
    return aligned / (norms[:, None] * norms)


def procrustes_distance(statistics: JointStatistics, *, part: Part = "train") -> Tensor:
    """min over orthogonal Q of ||X - Y Q||_F, both of unit Frobenius norm: [n_names, n_names], 0 to sqrt(2).

    Its square is ||X||^2 + ||Y||^2 - 2 ||X'Y||_* (Ding et al., NeurIPS 2021, arXiv 2108.01661). The root is taken
    because it is a metric (Williams et al., NeurIPS 2021, arXiv 2110.14739). The narrower matrix is padded with zeros.
    """
    return _pairwise(list(statistics.compute().centred(part).factors.values()), _rotated_difference)


def cca(statistics: JointStatistics, *, part: Part = "train", cutoff: float = CUTOFF) -> Tensor:
    """Mean canonical correlation, over as many as the matrix of lower rank has directions: [n_names, n_names].

    Hotelling, Biometrika 28, 321 (1936). Directions whose singular value is at most `cutoff` times the largest of
    their matrix do not count.
    """
    return svcca(statistics, part=part, cutoff=cutoff, variance=1.0)


def svcca(
    statistics: JointStatistics, *, part: Part = "train", cutoff: float = CUTOFF, variance: float = 0.99
) -> Tensor:
    """`cca` of the fewest leading singular directions that hold `variance` of each matrix's variance.

    Raghu et al., NeurIPS 2017, arXiv 1706.05806.
    """
    if not (0 <= cutoff < 1 and 0 < variance <= 1):
        raise InputError(f"cutoff must lie in [0, 1) and variance in (0, 1], got {cutoff} and {variance}")
    centred = statistics.compute().centred(part)
    cutoff = max(cutoff, centred.rcond)
    return _pairwise([_directions(x, cutoff, variance) for x in centred.factors.values()], _mean_correlation)


def effective_rank(statistics: JointStatistics, *, kind: Kind = "entropy", part: Part = "train") -> Tensor:
    """How many directions of feature space a matrix uses, from the eigenvalues p of its covariance: [n_names].

    With p normalised to a sum of 1, "entropy" is exp(-sum p log p), the effective rank of Roy & Vetterli, EUSIPCO
    2007, of the covariance matrix; "participation" is 1 / sum p^2, the participation ratio.
    """
    if kind not in ("entropy", "participation"):
        raise InputError(f"kind must be entropy or participation, got {kind!r}")
    ranks = []
    for factor in statistics.compute().centred(part).factors.values():
        values = torch.linalg.svdvals(factor).square()
        share = values / values.sum()
        ranks.append(torch.special.entr(share).sum().exp() if kind == "entropy" else 1 / share.square().sum())
    return torch.stack(ranks)


def _pairwise(matrices: list[Tensor], measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A symmetric measure of all pairs, each taken once."""
    n = len(matrices)
    found = torch.empty(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(i, n):
            found[i, j] = found[j, i] = measure(matrices[i], matrices[j])
    return found


def _unbiased(aligned: Tensor, centred: Centred) -> Tensor:
    """n (n - 3) times the unbiased HSIC, from ||X'Y||_F^2 of rows that are centred and of unit Frobenius norm.

    With zeroed diagonals K1 = -(||x_i||^2) and tr(KL) = ||X'Y||_F^2 - sum ||x_i||^2 ||y_i||^2, and off the diagonal
    centring changes nothing, because it adds terms that depend on one of the two rows alone.
    """
    n = centred.n_rows
    if n < 4:
        raise InputError(f"debiased CKA needs at least 4 rows, got {n}")
    return aligned - n / (n - 2) * centred.fourth + 1 / ((n - 1) * (n - 2))


def _rotated_difference(x: Tensor, y: Tensor) -> Tensor:
    """||X - Y Q||_F as the norm it is: as a difference of numbers near 1 it could not fall under 1e-8."""
    rotation = orthogonal_map(y, x)
    return (padded(x, len(rotation)) - padded(y, len(rotation)) @ rotation).norm()


def _directions(x: Tensor, cutoff: float, variance: float) -> Tensor:
    """Left singular vectors [m, r] above `cutoff`, the fewest that hold `variance` of the variance."""
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    left = s.square().flip(0).cumsum(0).flip(0)  # summed from the smallest, which would vanish beside the largest
    return u[:, (s > cutoff * s[0]) & (left > (1 - variance) * left[0])]


def _mean_correlation(u: Tensor, v: Tensor) -> Tensor:
    return torch.linalg.svdvals(u.T @ v).clamp(max=1).mean()
