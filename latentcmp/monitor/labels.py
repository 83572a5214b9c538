"""Labels of the rows of a probe: the structure of each atom, groups of structures, elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.ops.segments import Segments
from latentcmp.systems.system import System


@dataclass(frozen=True)
class Labels:
    """Labels of the rows of a probe.

    Attributes:
        owner: [n_atoms] index of the structure of each atom, or None.
        ids: id of each structure.
        groups: group of each structure.
        numbers: [n_rows] atomic numbers, or None.
    """

    owner: np.ndarray | None = None
    ids: Sequence[str] = ()
    groups: Sequence[str] = ()
    numbers: np.ndarray | None = None

    @classmethod
    def of_systems(cls, systems: Sequence[System]) -> "Labels":
        """Return the labels of the atoms of structures."""
        owner = np.repeat(np.arange(len(systems)), [len(system) for system in systems])
        numbers = np.concatenate([system.atoms.numbers for system in systems])
        return cls(owner, [system.id for system in systems], [system.group for system in systems], numbers)

    @classmethod
    def of_rows(cls, segments: Segments | Tensor | None, numbers: Any) -> "Labels":
        """Return labels from segments and atomic numbers; InputError where they do not describe the same rows."""
        owner, names = None, []
        if segments is not None:
            owner = _owner(segments)
            names = [str(name) for name in range(int(owner.max(initial=-1)) + 1)]
        if numbers is not None:
            numbers = np.asarray(numbers.cpu() if isinstance(numbers, Tensor) else numbers)
            if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
                raise InputError(f"numbers must be atomic numbers [n_rows], got {numbers.dtype} {numbers.shape}")
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(chemical_symbols):
                raise InputError(f"numbers must be atomic numbers, got {numbers.min()} to {numbers.max()}")
            if owner is not None and len(owner) != len(numbers):
                raise InputError(f"segments hold {len(owner)} rows, numbers {len(numbers)}; both must be the probe's")
        return cls(owner, names, names, numbers)

    def groups_of(self, items: np.ndarray, name: str) -> list[str]:
        """Return the group of each row of a layer: rows of one group are in one fold.

        Args:
            items: [n_rows] index of the batch item of each row, the group where no structures are known.
            name: name of the layer, for messages.

        Raises:
            InputError: the rows of the layer are neither the atoms nor the structures.
        """
        n = len(items)
        if self.owner is None:
            if self.numbers is not None and len(self.numbers) != n:
                raise InputError(f"layer {name!r} gives {n} rows, but numbers holds {len(self.numbers)}")
            return [str(item) for item in items]
        if n == len(self.owner):
            return [self.groups[system] for system in self.owner]
        if n == len(self.groups):
            return list(self.groups)
        raise InputError(
            f"layer {name!r} gives {n} rows, but the probe has {len(self.owner)} atoms in {len(self.groups)} structures"
        )


def _owner(segments: Segments | Tensor) -> np.ndarray:
    """Index of the structure of each row, in the order of the rows."""
    if isinstance(segments, Tensor):
        segments = Segments.from_index(segments.cpu())
    ids = segments.to("cpu").row_ids().numpy()
    if segments.permutation is None:
        return ids
    owner = np.empty_like(ids)
    owner[segments.permutation.cpu().numpy()] = ids
    return owner
