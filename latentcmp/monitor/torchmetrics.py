"""GFRE as a metric of torchmetrics."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.distributed import all_sum
from latentcmp.errors import InputError, MissingPackageError
from latentcmp.measures.global_errors import global_errors
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import JointMoments
from latentcmp.systems.split import parts_by_group

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingPackageError("torchmetrics is missing: pip install torchmetrics") from error

SOURCE, TARGET = "source", "target"


class GlobalReconstructionError(Metric):
    """GFRE(source -> target) over all rows: 0 is exact reconstruction, 1 no better than predicting the mean.

    The only state is the sum of the Gram matrices of the three parts, so that processes need one all_reduce. Singular
    values below 1e-7 of the largest are not resolved, as by every Gram matrix.

    Args:
        source_width: columns of the source.
        target_width: columns of the target.
        pivot: [source_width + target_width] shift of the features, the same in all processes, near their mean where
            that is far from zero.
        test_fraction: fraction of the groups that is tested.
        seed: key of the split.
        options: options of `torchmetrics.Metric`.

    Raises:
        InputError: the pivot has another shape.
    """

    is_differentiable, higher_is_better, full_state_update = False, False, False
    gram: Tensor

    def __init__(
        self,
        source_width: int,
        target_width: int,
        pivot: Tensor | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**{"dist_sync_fn": _all_reduce, **options})
        self.widths = {SOURCE: source_width, TARGET: target_width}
        self.test_fraction, self.seed = test_fraction, seed
        empty = JointStatistics(self.widths, "gram")
        columns = source_width + target_width
        if pivot is not None and pivot.shape != (columns,):
            raise InputError(f"pivot must be [{columns}], got {tuple(pivot.shape)}")
        self.pivot = torch.zeros(columns) if pivot is None else pivot.detach().cpu()
        self.add_state("gram", empty.compute().parts, dist_reduce_fx="sum")

    def update(self, source: Tensor, target: Tensor, groups: Sequence[Any]) -> None:
        """Add rows.

        Args:
            source: [n, source_width] features.
            target: [n, target_width] features of the same rows.
            groups: [n] labels on the host, such as the structure of each row; all rows of a group belong to one part,
                by a keyed hash of the label.

        Raises:
            InputError: shapes, dtypes or devices do not fit.
        """
        part = torch.from_numpy(parts_by_group(groups, self.test_fraction, self.seed))
        statistics = JointStatistics(self.widths, "gram", self.gram.device, pivot=self.pivot)
        statistics.update({SOURCE: source, TARGET: target}, part)
        self.gram = self.gram + statistics.compute().parts

    def compute(self) -> Tensor:
        """The error, 0-dimensional, float64. Raises InputError where a part has no rows."""
        counts, pivot = self.gram[:, 0, 0].round().long(), self.pivot.to(self.gram)
        moments = JointMoments(self.widths, "gram", self.gram, counts, pivot)
        return global_errors(moments)[0, 1].to(self.gram.device)


def _all_reduce(state: Tensor, group: Any = None) -> list[Tensor]:
    """Replace the default of torchmetrics, which gathers every state on every rank."""
    return [all_sum(state.clone(), "world" if group is None else group)]
