"""Checks for features that are not finite; errors name the model, the structure and the atom."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.systems.system import SystemInfo


def check_finite(label: str, values: Tensor, systems: Sequence[SystemInfo]) -> None:
    """Raise InputError for features that are not finite.

    Args:
        label: names the model in the message.
        values: features [n_atoms, D].
        systems: the structures of the rows.

    Raises:
        InputError: a value is a NaN or an infinity; the message names the structure and the atom of the first.
    """
    check = FiniteCheck()
    check.add(label, values, systems)
    check.finish()


class FiniteCheck:
    """`check_finite` of many blocks without a host synchronisation for each.

    Args:
        every: number of blocks that are checked together; None: 1 on a CPU, 64 on other devices.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self._pending: list[tuple[str, Sequence[SystemInfo], Tensor]] = []

    def add(self, label: str, values: Tensor, systems: Sequence[SystemInfo]) -> None:
        """Add the features [n_atoms, D] of some structures. Raises InputError as `finish` does."""
        if not len(values):
            return
        wrong = (~torch.isfinite(values)).any(dim=1).to(torch.uint8)
        self._pending.append((label, systems, torch.stack([wrong.sum(), wrong.argmax()])))
        if len(self._pending) >= (self.every or (1 if values.is_cpu else 64)):
            self.finish()

    def finish(self) -> None:
        """Raise InputError for the first block so far with a value that is not finite."""
        pending, self._pending = self._pending, []
        results = torch.stack([result for _, _, result in pending]).tolist() if pending else []
        for (label, systems, _), (count, row) in zip(pending, results, strict=True):
            if count:
                raise InputError(_message(label, systems, count, row))


def _message(label: str, systems: Sequence[SystemInfo], count: int, row: int) -> str:
    """`row` is the first of `count` rows with such values."""
    starts = np.cumsum([0, *map(len, systems)])
    position = int(np.searchsorted(starts, row, side="right")) - 1
    return (
        f"{label} gives a NaN or an infinity for {count} of {starts[-1]} atoms, first atom {row - starts[position]} of "
        f"structure {systems[position].id!r}; leave such structures out, or correct the model"
    )
