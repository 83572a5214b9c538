"""What is known of a model before it is loaded, and what a loaded one can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from ase import Atoms
from torch import Tensor, nn

from latentcmp.hooks.points import HookPoint

# Perfect primitive crystals whose energies show that a checkpoint was loaded into the code it was made for.
REFERENCE_CRYSTALS = {
    "Si": ("diamond", 5.43),
    "NaCl": ("rocksalt", 5.64),
    "Cu": ("fcc", 3.61),
    "MgO": ("rocksalt", 4.21),
}


@dataclass(frozen=True)
class ModelCard:
    """One checkpoint of a family.

    `package` is the distribution that pip installs, `checkpoint` the file inside its import package `module`.
    `energies` are reference energies in eV/atom of REFERENCE_CRYSTALS. `isolation_cutoff` (Angstrom) is set for
    models that refuse atoms without a neighbour within it, `needs_cell` for those that need three cell vectors.
    `options` holds what else is part of the model's identity, such as a modality.
    """

    name: str
    family: str
    package: str
    module: str
    checkpoint: str
    sha256: str
    licence: str
    trained_on: str
    elements: frozenset[int]
    points: tuple[HookPoint, ...]
    energies: tuple[float, ...] = ()
    needs_cell: bool = False
    isolation_cutoff: float | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def pip(self) -> str:
        """The command that installs the package."""
        return f"pip install {self.package}"


class Adapter(ABC):
    """A loaded model: structures to a batch on its device, an energy-only forward, and the module that hooks tap.

    A family's subclass sets `module` and writes `graph` and `energies`. Both are called without gradients.
    """

    def __init__(self, card: ModelCard, module: nn.Module, device: torch.device) -> None:
        self.card, self.module, self.device = card, module.to(device).eval(), device

    @abstractmethod
    def graph(self, atoms: Atoms) -> Any:
        """One structure as this model wants it, on the CPU."""

    @abstractmethod
    def energies(self, graphs: Sequence[Any]) -> Tensor:
        """One forward of a batch: energies [n_systems] in eV/atom."""

    def point(self, layer: str) -> HookPoint:
        """The hook point of a layer: a name of the card ("last", "backbone", ...) or any module path."""
        for point in self.card.points:
            if layer in (point.name, point.path):
                return point
        return HookPoint(name=layer, path=layer)
