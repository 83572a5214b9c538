"""The best orthogonal map between two sets of rows (Procrustes), padded with zeros to a common width.

Schoenemann, Psychometrika 31, 1 (1966); as scikit-matter's `OrthogonalRegression(use_orthogonal_projector=False)`.
"""

import torch
from torch import Tensor


def padded(rows: Tensor, width: int) -> Tensor:
    """Rows [n, D] with zero columns appended up to `width`."""
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))


def orthogonal_map(source: Tensor, target: Tensor) -> Tensor:
    """Q [w, w] with Q'Q = I that minimises ||source Q - target||, w the wider of the two.

    Args:
        source: [n, D_X].
        target: [n, D_Y].
    """
    width = max(source.shape[1], target.shape[1])
    u, _, vh = torch.linalg.svd(padded(source, width).T @ padded(target, width))
    rotation: Tensor = u @ vh
    return rotation


def distortion(source: Tensor, predicted: Tensor, rotation: Tensor) -> Tensor:
    """Difference of a linear and an orthogonal prediction from the same rows (Goscinski et al., MLST 2, 025028 (2021)).

    Args:
        source: [n, D_X].
        predicted: [n, D_Y], the linear prediction.
        rotation: [w, w], the orthogonal map, w the wider of the two.

    Returns:
        [n, w].
    """
    width = len(rotation)
    return padded(predicted, width) - padded(source, width) @ rotation
