"""Global reconstruction errors between all ordered pairs of matrices, from their joint statistics."""

import numpy as np
import torch
from torch import Tensor

from latentcmp.measures.cross_validation import Solver, checked_alphas
from latentcmp.measures.global_paths import FactorSource, GramSource, all_global_errors
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.pairs import compressed_errors
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Columns, JointMoments


def global_errors(
    statistics: JointStatistics | JointMoments,
    measure: ErrorName = "gfre",
    solver: Solver = "cutoff",
    alphas: np.ndarray | None = None,
    columns: Columns | None = None,
) -> Tensor:
    """GFRE or GFRD of all ordered pairs of matrices.

    Args:
        statistics: joint statistics of the rows, with rows in both folds and in the test part.
        measure: "gfre" or "gfrd".
        solver: "cutoff" (truncated SVD) or "ridge".
        alphas: ascending relative strengths; None for the default grid.
        columns: {name: (matrix, n)} to compare the first n columns of matrices; None to compare the matrices.

    Returns:
        [n_names, n_names] float64 on the CPU, sources in rows, in the order of the widths or of `columns`.

    Raises:
        InputError: a part has too few rows, a matrix is constant over the training rows, or a value was not finite.
    """
    moments = statistics.compute() if isinstance(statistics, JointStatistics) else statistics
    rcond = moments.rcond
    if measure == "gfre" and columns is None:
        scaled = moments.scaled()
        kind = GramSource if statistics.method == "gram" else FactorSource
        sources = kind.of_all(scaled.parts, scaled.columns.values())
        grid = torch.from_numpy(checked_alphas(alphas)).to(scaled.parts.device)
        return all_global_errors(sources, list(statistics.widths.values()), scaled.counts, grid, solver, rcond).cpu()
    matrices = list(moments.compressed(columns).values())
    rows = [compressed_errors(source, matrices, measure, solver, alphas, rcond) for source in matrices]
    return torch.stack([torch.stack(row) for row in rows]).cpu()
