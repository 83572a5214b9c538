"""Losses between two feature matrices of the same rows: reconstruction error and linear CKA.

Statistics are float64 for every input dtype, also under autocast; the loss has the wider dtype of the two inputs, at
least float32. There is no host synchronisation and no check of values: a NaN gives a NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor

from latentcmp._runtime.distributed import Group, check_group
from latentcmp.errors import InputError
from latentcmp.nn.ridge import SmoothScaling, local_predict, ridge_predict, ridge_solve, rounding_of
from latentcmp.nn.running_moments import RunningMoments
from latentcmp.ops.segments import Segments

Detach = Literal["none", "map", "source", "target"]


class _FeatureLoss(torch.nn.Module, ABC):
    """Base of losses between two feature matrices of the same rows, pooled if requested, in float64."""

    def __init__(self, pooling: torch.nn.Module | None, min_rows: int) -> None:
        super().__init__()
        self.pooling, self.min_rows = pooling, min_rows

    def forward(self, source: Tensor, target: Tensor, segments: Segments | Tensor | None = None) -> Tensor:
        """Compute the loss, a scalar.

        Args:
            source: [n_atoms, D], floating point.
            target: [n_atoms, T], floating point, on the same device.
            segments: the atoms of each structure, a `Segments` or offsets ptr [n_systems + 1]; required with
                `pooling`, an error without.

        Raises:
            InputError: shapes, numbers of rows, dtypes or devices do not match.
        """
        source, target = self._pooled(source, target, segments)
        self._check(source, target)
        roundings = rounding_of(source.dtype), rounding_of(target.dtype)
        loss = self._loss(source.double(), target.double(), *roundings)
        return loss.to(torch.promote_types(torch.promote_types(source.dtype, target.dtype), torch.float32))

    @abstractmethod
    def _loss(self, x: Tensor, y: Tensor, rounding_x: float, rounding_y: float) -> Tensor:
        """The loss of float64 rows; the roundings are the relative spreads that count as constant."""

    def _pooled(self, source: Tensor, target: Tensor, segments: Segments | Tensor | None) -> tuple[Tensor, Tensor]:
        if (self.pooling is None) != (segments is None):
            given = "without segments" if segments is None else "with segments"
            raise InputError(
                f"{type(self).__name__} was called {given}; for structures give pooling=CumulantPooling(...) to the "
                "constructor and segments to the call, for atoms neither"
            )
        if self.pooling is None:
            return source, target
        return self.pooling(source, segments), self.pooling(target, segments)

    def _check(self, source: Tensor, target: Tensor) -> None:
        for name, matrix in (("source", source), ("target", target)):
            if matrix.dim() != 2 or not matrix.size(1) or not matrix.is_floating_point():
                raise InputError(
                    f"{name} must be [rows, features], floating point, got {matrix.dtype} {tuple(matrix.shape)}"
                )
        if source.size(0) != target.size(0):
            raise InputError(
                f"source and target must hold the same rows, got {source.size(0)} and {target.size(0)} rows"
            )
        if source.device != target.device:
            raise InputError(f"source is on {source.device} and target on {target.device}; move them to one device")
        if source.size(0) < self.min_rows:
            raise InputError(f"{type(self).__name__} needs at least {self.min_rows} rows, got {source.size(0)}")


class ReconstructionLoss(_FeatureLoss):
    """Reconstruction error of the target features from the source features: the GFRE or LFRE of the batch.

    Each matrix is centred and divided by one number, the root of its total variance; one ridge map predicts the target
    from the source; the loss is the root mean square row error, 0 for an exact reconstruction and 1 for one no better
    than the mean (Goscinski et al., MLST 2, 025028, 2021). The map comes from a Cholesky factorisation of the D x D or
    the n x n system, whichever is smaller, and is differentiated. Targets can be the features of a larger frozen model
    (distillation) or of the pretrained model (against forgetting).

    Fitted and evaluated on the same rows, the loss is optimistic: with n <= D rows and a small `alpha` it is near 0 for
    any two matrices. Use more rows than columns, a larger `alpha`, or `momentum`. Being a root, its gradient does not
    vanish as the loss goes to 0; the square of the loss has one that does.

    Args:
        solver: "ridge". (The truncated SVD of `latentcmp.metrics` is discontinuous where a singular value crosses the
            cutoff.)
        alpha: strength of the ridge, relative to the total variance of the source, which is the sum of the eigenvalues
            of its covariance and lies between the largest one and D times it. Unlike the largest it needs no
            eigendecomposition and is differentiable where eigenvalues coincide. On n scaled rows it is the absolute
            n * alpha of scikit-learn's `Ridge`. (scikit-matter's "relative" adds alpha times the largest singular
            value, not eigenvalue, so its strength depends on the number of rows.) 1e-12 is added, so that alpha = 0
            stays finite.
        detach: what is excluded from the gradient. "source" or "target": that matrix. "map": the map, its means and the
            scale of the source; the difference vanishes as alpha goes to 0, where the map minimises the loss, and it
            is cheaper.
        pooling: None to compare atoms, a `CumulantPooling` to compare structures.
        n_local_points: None for one linear map; else every row has its own map, fitted to this many nearest other rows
            of the batch (at least 2; alpha is then relative to the variance of the neighbours). Memory is proportional
            to n * n_local_points * (D + T).
        momentum: None to fit the map to the batch; else to exponentially weighted second moments held in buffers, in
            which the latest batch has the weight `momentum` (0 < momentum <= 1). Gradients pass through the latest
            batch only. In evaluation the buffers do not change.
        widths: (D, T) of the two matrices after pooling; required with `momentum`.
        group: the processes whose rows form a batch of `momentum` in distributed training. None: this process, with
            its own moments (in a module under DistributedDataParallel they are buffers, which it overwrites with
            those of the first process). "world", or a process group: all its processes, as in SyncBatchNorm.
            Moments, map and loss are then those of one process with the whole batch, for any distribution of the rows.
            Each process gets the gradient of the common loss with respect to its own rows times the number of
            processes, so that the mean, which DistributedDataParallel takes, is that of one process. All processes
            must call the loss and its backward in every step, in which they synchronise: three all_reduce forward and
            up to three backward, the largest of (D + T)^2 numbers. Evaluation communicates nothing and gives the loss
            of the rows of this process. "world" is resolved when the loss is called: without torch.distributed it is
            this process alone, and unlike a group it can be copied and pickled.

    For a constant source the linear map predicts the mean, and the loss is 1; for a constant target it is 0. Both have
    gradient 0 with respect to the constant matrix. Constant means a spread below the resolution of the dtype.
    """

    def __init__(
        self,
        solver: Literal["ridge"] = "ridge",
        alpha: float = 1e-6,
        detach: Detach = "none",
        pooling: torch.nn.Module | None = None,
        n_local_points: int | None = None,
        momentum: float | None = None,
        widths: tuple[int, int] | None = None,
        group: Group = None,
    ) -> None:
        super().__init__(pooling, min_rows=2 if n_local_points is None else n_local_points + 1)
        if solver != "ridge":
            raise InputError(f"solver must be 'ridge', the only one that can be differentiated, got {solver!r}")
        if detach not in get_args(Detach):
            raise InputError(f"detach must be one of {', '.join(get_args(Detach))}, got {detach!r}")
        if not 0 <= alpha < float("inf"):
            raise InputError(f"alpha must be a relative strength of at least 0, got {alpha!r}")
        if n_local_points is not None and n_local_points < 2:
            raise InputError(f"n_local_points must be at least 2, got {n_local_points}")
        self.alpha, self.detach, self.n_local_points = float(alpha), detach, n_local_points
        self.moments = _moments(momentum, widths, n_local_points, group)
        self.widths = widths

    def extra_repr(self) -> str:
        """The options shown by `repr`."""
        local = "" if self.n_local_points is None else f", n_local_points={self.n_local_points}"
        return f"alpha={self.alpha:g}, detach={self.detach!r}{local}"

    def _loss(self, x: Tensor, y: Tensor, rounding_x: float, rounding_y: float) -> Tensor:
        x = x.detach() if self.detach == "source" else x
        y = y.detach() if self.detach == "target" else y
        if self.moments is not None:
            squares = self._running_residual(x, y, rounding_x, rounding_y).square()
            mean = self.moments.mean_of(squares.sum(), len(squares))
        else:
            mean = self._batch_residual(x, y, rounding_x, rounding_y).square().sum(1).mean()
        return mean.clamp(min=1e-30).sqrt()  # the root is not differentiable at 0

    def _batch_residual(self, x: Tensor, y: Tensor, rounding_x: float, rounding_y: float) -> Tensor:
        hold = self.detach == "map"
        scaling = SmoothScaling.of_rows(x, rounding_x)
        x = scaling.held()(x) if hold else scaling(x)
        y = SmoothScaling.of_rows(y, rounding_y)(y)
        fitted_x, fitted_y = (x.detach(), y.detach()) if hold else (x, y)
        if self.n_local_points is not None:
            return y - local_predict(x, fitted_x, fitted_y, self.n_local_points, self.alpha)
        return y - ridge_predict(x, fitted_x, fitted_y, self.alpha)

    def _running_residual(self, x: Tensor, y: Tensor, rounding_x: float, rounding_y: float) -> Tensor:
        assert self.moments is not None
        if (x.size(1), y.size(1)) != self.widths:
            raise InputError(f"widths are {self.widths}, got features of width {(x.size(1), y.size(1))}")
        mean, covariance = self.moments(torch.cat([x, y], 1))
        columns = slice(0, x.size(1)), slice(x.size(1), None)
        scale_x, scale_y = (
            SmoothScaling.of_moments(mean[at], covariance[at, at].trace(), rounding)
            for at, rounding in zip(columns, (rounding_x, rounding_y), strict=True)
        )
        gram = covariance[columns[0], columns[0]] * scale_x.reciprocal.square()
        cross = covariance[columns] * scale_x.reciprocal * scale_y.reciprocal
        if self.detach == "map":
            gram, cross, scale_x = gram.detach(), cross.detach(), scale_x.held()
        return scale_y(y) - scale_x(x) @ ridge_solve(gram, cross, self.alpha)


def _moments(
    momentum: float | None, widths: tuple[int, int] | None, n_local_points: int | None, group: Group
) -> RunningMoments | None:
    if momentum is None:
        if group is not None:
            raise InputError("group applies to running moments; give momentum too (1.0 uses the latest batch only)")
        return None
    check_group(group)
    if n_local_points is not None:
        raise InputError("momentum fits one map for all rows; it cannot be combined with n_local_points")
    if not 0 < momentum <= 1:
        raise InputError(f"momentum must be above 0 and at most 1, got {momentum!r}")
    if widths is None or len(widths) != 2 or min(widths) < 1:
        raise InputError(f"momentum needs widths=(columns of the source, columns of the target), got {widths!r}")
    return RunningMoments(sum(widths), momentum, group)


class CKALoss(_FeatureLoss):
    """1 - linear CKA of two feature matrices: 0 for features equal up to rotation and scale, 1 for unrelated ones.

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) of the kernels XX' and YY' of centred rows (Kornblith et al.,
    ICML 2019), in the D x T form, without n x n matrices. A constant matrix gives 1, with gradient 0.

    Args:
        debiased: use the unbiased estimator of HSIC (Song et al., JMLR 13, 1393, 2012, eq. 4), whose expectation does
            not depend on the number of rows, for at least 4 rows; the loss can then exceed 1. Else the biased one,
            with which the loss is too small for few rows.
        pooling: None to compare atoms, a `CumulantPooling` to compare structures.
    """

    def __init__(self, debiased: bool = True, pooling: torch.nn.Module | None = None) -> None:
        super().__init__(pooling, min_rows=4 if debiased else 2)
        self.debiased = debiased

    def extra_repr(self) -> str:
        """The options shown by `repr`."""
        return f"debiased={self.debiased}"

    def _loss(self, x: Tensor, y: Tensor, rounding_x: float, rounding_y: float) -> Tensor:
        x = SmoothScaling.of_rows(x, rounding_x)(x)
        y = SmoothScaling.of_rows(y, rounding_y)(y)
        own = self._hsic(x, x) * self._hsic(y, y)
        return 1 - self._hsic(x, y) * own.clamp(min=1e-24).rsqrt()

    def _hsic(self, x: Tensor, y: Tensor) -> Tensor:
        """An estimate of HSIC up to a factor that depends on n only, for centred x [n, D] and y [n, T]."""
        n = x.size(0)
        plain = (x.T @ y / n).square().sum()
        if not self.debiased:
            return plain
        norms_x, norms_y = x.square().sum(1), y.square().sum(1)
        diagonals = (norms_x * norms_y).sum() / (n * (n - 2))
        return plain - diagonals + norms_x.mean() * norms_y.mean() / ((n - 1) * (n - 2))
