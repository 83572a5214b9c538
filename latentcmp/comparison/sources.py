"""Sources of features, read block by block: loaded models, and features that were extracted before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latentcmp._runtime.progress import Advance, Timing
from latentcmp._runtime.types import Metadata
from latentcmp.features.extract import layer_manifest
from latentcmp.features.stored import StoredFeatures
from latentcmp.hooks.layout import Reduce
from latentcmp.models.card import Adapter
from latentcmp.models.forward import run_layers
from latentcmp.systems.system import System, SystemInfo


class FeatureSource(Protocol):
    """A source of the features of one or several labels."""

    @property
    def name(self) -> str:
        """Name in progress reports and messages."""

    def rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """Features {label: [n_atoms, D]} of systems, in their order, on the device of the comparison."""

    def manifest(self, label: str, values: Tensor) -> Metadata:
        """Metadata of the features of a label."""


@dataclass
class ModelSource:
    """A loaded model, its layers by label, and the structures by id."""

    adapter: Adapter
    systems: Mapping[str, System]
    layers: Mapping[str, str]
    reduce: Reduce
    batch_atoms: int | None
    timing: Timing

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.adapter.card.name

    def rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """Run the model. Raises ModelError for a failure of the model."""
        values = run_layers(
            self.adapter,
            self.layers.values(),
            [self.systems[system.id] for system in systems],
            reduce=self.reduce,
            batch_atoms=self.batch_atoms,
            timing=self.timing,
            advance=advance,
        )
        return {label: values[layer] for label, layer in self.layers.items()}

    def manifest(self, label: str, values: Tensor) -> Metadata:
        """Layer, layout and dtype of the features."""
        return layer_manifest(self.adapter, self.layers[label], values, self.reduce)


@dataclass
class StoreSource:
    """Stored features, or features in memory."""

    store: StoredFeatures
    device: torch.device

    @property
    def name(self) -> str:
        """The label of the features."""
        return self.store.label

    def rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """Read the rows. Raises InputError for damage, and for values that are not finite."""
        values = self.store.rows([system.id for system in systems]).to(self.device)
        if advance:
            advance(len(values))
        return {self.store.label: values}

    def manifest(self, label: str, values: Tensor) -> Metadata:
        """The manifest of the features, with their width."""
        return self.store.manifest | {"width": self.store.width}
