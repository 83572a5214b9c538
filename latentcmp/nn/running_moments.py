"""Second moments of a stream of batches, with exponentially fading weights."""

import torch
from torch import Tensor

from latentcmp._runtime.distributed import Group, mean_over_rows


class RunningMoments(torch.nn.Module):
    """Mean [D] and covariance [D, D] of rows that come in batches, the latest weighing ``momentum``.

    Both are float64 buffers. The first batches are averaged evenly (batch t weighs 1 / t until that is less than
    ``momentum``), so nothing has to be corrected for the start. A batch that holds a NaN or an infinity, as a step does
    that a gradient scaler skips, leaves no trace in the buffers. In training a batch is the rows of all processes of
    ``group``, and the buffers are the same on all of them.
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
        """Moments with rows [n, D] (float64) taken in, which carry the gradients; in evaluation those of the buffers.

        Where nothing has been seen yet, evaluation gives the moments of the rows themselves.
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
        """Sums over the rows of the batch here, as the mean over the whole batch."""
        return mean_over_rows(sums, n_rows, self.group if self.training else None)

    def _weight(self) -> Tensor:
        """Of the batch at hand; a tensor, so that nothing waits for the device."""
        if not self.training:
            return (self.n_batches == 0).to(self.mean.dtype)
        return (1 / (self.n_batches + 1).to(self.mean.dtype)).clamp(min=self.momentum)
