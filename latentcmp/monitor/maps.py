"""Global maps between states of a layer, fold by fold, with strengths small enough for small errors."""

from collections.abc import Iterator, Sequence

from latentcmp.measures.fold_maps import FoldMaps, fit_folds
from latentcmp.measures.strength_search import LEAST_DRIFT, FoldRules, default_strengths
from latentcmp.statistics.joint_moments import JointMoments
from latentcmp.statistics.part_moments import PartMoments
from latentcmp.systems.group_folds import leave_one_out


def drift_maps(moments: JointMoments, sources: Sequence[str] | None = None) -> Iterator[FoldMaps]:
    """Fit ridge maps on all folds but one, for each fold in turn, with strengths from `LEAST_DRIFT`.

    Args:
        moments: their parts are the folds.
        sources: names of the sources; None for all matrices. All matrices are targets.

    Raises:
        InputError: a matrix is constant over the training rows of a fold, or a value was not finite.
    """
    rules = FoldRules.of("ridge", default_strengths("ridge", LEAST_DRIFT), moments.parts.device)
    return fit_folds(PartMoments.of(moments), leave_one_out(len(moments.counts)), rules, sources)
