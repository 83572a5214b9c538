"""Interfaces of a model: its card, which is known before it is loaded, its adapter, and its family."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from ase import Atoms
from torch import Tensor, nn

from latentcmp._runtime.settings import single_precision
from latentcmp.errors import ModelError
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
    """Metadata of one checkpoint of a family.

    Attributes:
        name: the name of the model, unique, in lower case.
        family: the name under which its family is registered.
        package: the distribution that pip installs.
        module: the import package of the distribution.
        checkpoint: the file of the checkpoint, relative to the import package.
        sha256: SHA-256 of that file, in hexadecimal.
        licence: licence of the checkpoint.
        trained_on: data set and level of theory of the training.
        elements: atomic numbers that the model accepts.
        points: hook points of its layers; one is named "last".
        energies: reference energies of REFERENCE_CRYSTALS, eV/atom.
        needs_cell: whether the model requires three cell vectors.
        isolation_cutoff: Angstrom; set for models that fail for an atom without a neighbour within it.
        options: further parts of the model's identity, such as a modality.
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
    """A loaded model: graphs of structures, an energy-only forward of a batch, and the module that hooks tap.

    A family's subclass implements `graph` and `energies`; both are called without gradients. It may implement
    `constructed_anew`.

    Args:
        card: the card of the checkpoint that was loaded.
        module: the module that holds the card's hook points; it is moved to `device` and put into evaluation mode.
        device: where the model runs.
    """

    def __init__(self, card: ModelCard, module: nn.Module, device: torch.device) -> None:
        self.card, self.module, self.device = card, module.to(device).eval(), device

    @abstractmethod
    def graph(self, atoms: Atoms) -> Any:
        """Return the model's input for one structure, on the CPU."""

    @abstractmethod
    def energies(self, graphs: Sequence[Any]) -> Tensor:
        """Run one forward of a batch of `graph` results: energies [n_systems] in eV/atom."""

    def constructed_anew(self) -> "Adapter | None":
        """Construct the network again from its own configuration, with the initial weights of its package.

        It draws from the default generator of torch on the CPU; `with_random_weights` seeds it.

        Returns:
            An adapter with the same card, device and constants such as normalisations; None where the family does not
            implement it.
        """
        return None

    def with_random_weights(self, seed: int) -> "Adapter | None":
        """Return a model of the same architecture with random weights.

        Args:
            seed: seed of the weights, which do not depend on the state of any generator. No generator is changed.

        Returns:
            The model, on the same device; None where the family cannot construct it (`constructed_anew`).

        Raises:
            ModelError: the package of the model failed.
        """
        try:
            with torch.random.fork_rng(devices=[]), single_precision():
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
                return self.constructed_anew()
        except Exception as error:  # model packages raise whatever they raise
            reason = f"{type(error).__name__}: {error}"
            raise ModelError(f"{self.card.name} cannot be constructed with random weights: {reason}") from error

    def point(self, layer: str) -> HookPoint:
        """Return the hook point of a layer: a name of the card ("last", "backbone", ...) or any module path."""
        for point in self.card.points:
            if layer in (point.name, point.path):
                return point
        return HookPoint(name=layer, path=layer)


class Family(Protocol):
    """Interface of the module of a model family.

    It must import the model's package inside functions only: the module is imported whenever models are listed.
    """

    @property
    def CARDS(self) -> Sequence[ModelCard]:
        """The checkpoints of the family; the first lends its hook points to FAMILY:CHECKPOINT."""

    def load(self, card: ModelCard, path: Path, device: torch.device, trust: bool) -> Adapter:
        """Load a checkpoint onto a device.

        Args:
            card: the card of the model; the adapter may hold one that is corrected by the checkpoint.
            path: the checkpoint; for a card's own file, its SHA-256 has been checked.
            device: where the model shall run.
            trust: whether code from the checkpoint may run, as unpickling does.

        Raises:
            InputError: the file is not a checkpoint of this family.
            UntrustedCheckpointError: loading would run code from the file, and `trust` is False.
        """
