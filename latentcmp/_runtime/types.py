"""Types that several packages share."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

Metadata: TypeAlias = dict[str, Any]
"""Metadata by name, of values that JSON holds."""
StateDict: TypeAlias = dict[str, Any]
"""State of an object: tensors and plain containers, as torch's state dicts."""
RowIndices: TypeAlias = Sequence[int] | Sequence[bool] | np.ndarray | Tensor
"""Row numbers, or a boolean mask of all rows."""
Strengths: TypeAlias = Sequence[float] | np.ndarray
"""Relative regularisation strengths in [0, 1)."""
