"""GFRE as a metric of torchmetrics."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.distributed import all_sum
from latentcmp.errors import InputError, MissingPackageError
from latentcmp.monitor.maps import drift_maps
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import JointMoments
from latentcmp.systems.group_folds import N_FOLDS, fold_of_labels

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingPackageError("torchmetrics is missing: pip install torchmetrics") from error

SOURCE, TARGET = "source", "target"


class GlobalReconstructionError(Metric):
    """GFRE(source -> target) over all rows: 0 is exact reconstruction, 1 no better than predicting the mean.

    Rows are divided into five folds by a keyed hash of the labels of their groups, and every row is tested once, by
    ridge maps as of `DriftMonitor`. The only state is the sum of the Gram matrices of the folds, so that processes need
    one all_reduce.

    Args:
        source_width: columns of the source.
        target_width: columns of the target.
        pivot: [source_width + target_width] shift of the features, the same in all processes, near their mean where
            that is far from zero.
        seed: key of the hash of groups.
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
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**{"dist_sync_fn": _all_reduce, **options})
        self.widths = {SOURCE: source_width, TARGET: target_width}
        self.seed = seed
        empty = JointStatistics(self.widths, "gram", n_parts=N_FOLDS)
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
            groups: [n] labels on the host, such as the structure of each row; all rows of a group are in one fold.

        Raises:
            InputError: shapes, dtypes or devices do not fit.
        """
        fold = torch.from_numpy(fold_of_labels(groups, self.seed))
        statistics = JointStatistics(self.widths, "gram", self.gram.device, n_parts=N_FOLDS, pivot=self.pivot)
        statistics.update({SOURCE: source, TARGET: target}, fold)
        self.gram = self.gram + statistics.compute().parts

    def compute(self) -> Tensor:
        """Return the error, 0-dimensional, float64. Raises InputError where a fold has no rows."""
        counts, pivot = self.gram[:, 0, 0].round().long(), self.pivot.to(self.gram)
        if not bool(counts.all()):
            raise InputError(
                f"every fold must have rows, got {counts.tolist()} rows in the {N_FOLDS} folds, which a hash of the "
                "labels of groups chooses; give rows of more groups, about 30 or more"
            )
        moments = JointMoments(self.widths, "gram", self.gram, counts, pivot)
        squares = torch.stack([maps.squares()[0, 1] for maps in drift_maps(moments, [SOURCE])]).sum()
        return (squares / counts.sum().cpu()).sqrt().to(self.gram.device)


def _all_reduce(state: Tensor, group: Any = None) -> list[Tensor]:
    """Replace the default of torchmetrics, which gathers every state on every rank."""
    return [all_sum(state.clone(), "world" if group is None else group)]
