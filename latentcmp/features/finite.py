"""Features that are not finite, named by model, structure and atom."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.systems.system import Known


def check_finite(label: str, values: Tensor, systems: Sequence[Known]) -> None:
    """Raise InputError naming the model, the structure and the atom of the first value that is not finite."""
    watch = FiniteWatch()
    watch.look(label, values, systems)
    watch.finish()


class FiniteWatch:
    """`check_finite` that need not wait for a device: of the blocks it looks at, up to `latest` are judged together.

    None: each at once on a CPU, 64 elsewhere.
    """

    def __init__(self, latest: int | None = None) -> None:
        self.latest = latest
        self._seen: list[tuple[str, Sequence[Known], Tensor]] = []

    def look(self, label: str, values: Tensor, systems: Sequence[Known]) -> None:
        """Take note of values [n_atoms, D] of some structures. Raises InputError like `finish`."""
        if not len(values):
            return
        wrong = (~torch.isfinite(values)).any(dim=1).to(torch.uint8)
        self._seen.append((label, systems, torch.stack([wrong.sum(), wrong.argmax()])))
        if len(self._seen) >= (self.latest or (1 if values.is_cpu else 64)):
            self.finish()

    def finish(self) -> None:
        """Raise InputError for the first values so far that were not finite."""
        seen, self._seen = self._seen, []
        found = torch.stack([numbers for _, _, numbers in seen]).tolist() if seen else []
        for (label, systems, _), (count, row) in zip(seen, found, strict=True):
            if count:
                raise InputError(_message(label, systems, count, row))


def _message(label: str, systems: Sequence[Known], count: int, row: int) -> str:
    """`row` is that of the first of `count` atoms with such values."""
    starts = np.cumsum([0, *map(len, systems)])
    where = int(np.searchsorted(starts, row, side="right")) - 1
    return (
        f"{label} gives a NaN or an infinity for {count} of {starts[-1]} atoms, first atom {row - starts[where]} of "
        f"structure {systems[where].id!r}; leave such structures out, or mend the model"
    )
