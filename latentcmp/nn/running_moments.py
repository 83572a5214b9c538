"""Exponentially weighted second moments of a stream of batches."""

import torch
from torch import Tensor

from latentcmp._runtime.distributed import Group, mean_over_rows


class RunningMoments(torch.nn.Module):
    """Mean [D] and covariance [D, D] of rows that arrive in batches, the latest with weight `momentum`.

    Both are float64 buffers. Batch t has weight 1 / t until that is less than `momentum`, so no bias correction of the
    first batches is needed. A batch with a NaN or an infinity, as in a step that a gradient scaler skips, does not
    change the buffers. In training a batch is the rows of all processes of `group`, and the buffers are equal on all of
    them.

    Args:
        width: D.
        momentum: weight of the latest batch, above 0 and at most 1.
        group: as in `ReconstructionLoss`.
    """

    mean: Tensor
    covariance: Tensor
    n_batches: Tensor

    def __init__(self, width: int, momentum: float, group: Group = None) -> None:
        super().__init__()
        self.momentum, self.group = momentum, group
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("covariance", torch.zeros(width, width, dtype=torch.float64))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Update the moments with rows [n, D] float64 and return mean [D] and covariance [D, D], with gradients.

        In evaluation they are those of the buffers, or before the first update those of the rows.
        """
        batch_mean = self.mean_of(rows.sum(0), len(rows))
        centred = rows - batch_mean
        weight = self._weight()
        shift = batch_mean - self.mean
        mean = self.mean + weight * shift
        covariance = (1 - weight) * (self.covariance + weight * torch.outer(shift, shift))
        covariance = covariance + weight * self.mean_of(centred.T @ centred, len(rows))
        if self.training:
            # New tensors: torch.compile may recompute from buffers in the backward, after they were written in place.
            finite = torch.isfinite(covariance.detach()).all()
            self.mean = torch.where(finite, mean.detach(), self.mean)
            self.covariance = torch.where(finite, covariance.detach(), self.covariance)
            self.n_batches = self.n_batches + finite
        return mean, covariance

    def mean_of(self, sums: Tensor, n_rows: int) -> Tensor:
        """The mean over the rows of all processes from the sums over `n_rows` rows of this process."""
        return mean_over_rows(sums, n_rows, self.group if self.training else None)

    def _weight(self) -> Tensor:
        """The weight of the latest batch, a tensor, without host synchronisation."""
        if not self.training:
            return (self.n_batches == 0).to(self.mean.dtype)
        return (1 / (self.n_batches + 1).to(self.mean.dtype)).clamp(min=self.momentum)
