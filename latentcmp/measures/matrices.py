"""Feature matrices as users give them: checked on the way in, results of their kind on the way out."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.types import RowIndices
from latentcmp.errors import InputError
from latentcmp.systems.folds import resolve_split

Matrix: TypeAlias = Tensor | np.ndarray


def as_matrix(name: str, values: Any) -> Tensor:
    """A finite 2-D floating-point tensor on the device of `values`, not copied. Raises InputError otherwise."""
    matrix = values.detach() if isinstance(values, Tensor) else _from_array(name, values)
    if matrix.ndim != 2:
        raise InputError(f"{name} must be a matrix [rows, features], got shape {tuple(matrix.shape)}")
    if not matrix.shape[1]:
        raise InputError(f"{name} has no columns")
    if matrix.is_complex():
        raise InputError(f"{name} is complex; give real features")
    if not bool(torch.isfinite(matrix).all()):
        row = int((~torch.isfinite(matrix)).any(1).nonzero()[0, 0])
        raise InputError(f"{name} holds a NaN or an infinity, first in row {row}; remove or correct that row")
    return matrix if matrix.is_floating_point() else matrix.to(torch.float64)


def _from_array(name: str, values: Any) -> Tensor:
    try:
        array = np.asarray(values)
        if np.iscomplexobj(array):
            raise InputError(f"{name} is complex; give real features")
        shared = array.dtype in (np.float32, np.float64) and array.flags.writeable
        forward = min(array.strides, default=0) >= 0  # torch has no negative strides
        return torch.from_numpy(array if shared and forward else np.array(array, dtype=np.float64))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} must be a matrix of numbers [rows, features]: {error}") from error


def like(X: Matrix, value: Tensor) -> Any:
    """A tensor where X is a tensor, else an array or a NumPy scalar."""
    return value if isinstance(X, Tensor) else value.cpu().numpy()[()]


def paired(X: Any, Y: Any) -> dict[str, Tensor]:
    """Two finite matrices with the same rows on one device, by name. Raises InputError otherwise."""
    pair = {"X": as_matrix("X", X), "Y": as_matrix("Y", Y)}
    if len(pair["X"]) != len(pair["Y"]):
        raise InputError(f"X and Y must hold the same rows, got {len(pair['X'])} and {len(pair['Y'])} rows")
    if pair["X"].device != pair["Y"].device:
        raise InputError(f"X and Y must lie on one device, got {pair['X'].device} and {pair['Y'].device}")
    return pair


def checked_split(
    matrices: dict[str, Tensor], train_idx: RowIndices | None = None, test_idx: RowIndices | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and test positions (int64) of matrices with the same rows on the same device.

    Args:
        matrices: {name: [n, D]}.
        train_idx: row numbers or a boolean mask; None for the complement of `test_idx`.
        test_idx: the same for the test rows; with neither given, the rows are halved.

    Raises:
        InputError: rows or devices differ, positions are not valid, or a side has too few rows.
    """
    lengths = {name: len(values) for name, values in matrices.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"all matrices must hold the same rows, got {_listed(lengths)} rows")
    devices = {name: values.device for name, values in matrices.items()}
    if len(set(devices.values())) > 1:
        raise InputError(f"all matrices must lie on one device, got {_listed(devices)}; move them with .to(device)")
    train, test = resolve_split(next(iter(lengths.values())), train_idx, test_idx)
    if len(train) < 2 or len(test) < 1:
        raise InputError(f"need at least 2 training rows and 1 test row, got {len(train)} and {len(test)}")
    return train, test


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
