"""Sources of features, read block by block: loaded models, and features that were extracted before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.progress import Advance, Timing
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.noise import NoiseByLabel, noise_of
from latentcmp.features.extract import layer_manifest
from latentcmp.features.stored import StoredFeatures
from latentcmp.hooks.layout import Reduce
from latentcmp.measures.baseline_rows import random_columns
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

    def numbers(self, systems: Sequence[SystemInfo]) -> np.ndarray:
        """Atomic numbers [n_atoms] of systems."""

    def structures(self, systems: Sequence[SystemInfo]) -> list[System] | None:
        """The structures themselves; None where they are not stored."""

    @property
    def random_labels(self) -> Sequence[str]:
        """Labels of the features that `random_rows` has."""

    def random_rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """As `rows`, of the architecture with random weights, by `random_columns` of labels and seeds."""

    def noise(self, systems: Sequence[SystemInfo], rows: Mapping[str, Tensor]) -> NoiseByLabel:
        """The noise of the features of systems, given their rows by label; empty where no model can be run."""


@dataclass
class ModelSource:
    """A loaded model, its layers by label, the structures by id, and the model with the random weights of each seed."""

    adapter: Adapter
    systems: Mapping[str, System]
    layers: Mapping[str, str]
    reduce: Reduce
    batch_atoms: int | None
    timing: Timing
    random: Sequence[Adapter] = ()

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

    def numbers(self, systems: Sequence[SystemInfo]) -> np.ndarray:
        """As `FeatureSource.numbers`."""
        return np.concatenate([self.systems[system.id].atoms.numbers for system in systems])

    def structures(self, systems: Sequence[SystemInfo]) -> list[System] | None:
        """As `FeatureSource.structures`."""
        return [self.systems[system.id] for system in systems]

    @property
    def random_labels(self) -> Sequence[str]:
        """As `FeatureSource.random_labels`: all or none."""
        return list(self.layers) if self.random else []

    def random_rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """As `FeatureSource.random_rows`. Raises ModelError for a failure of the model."""
        by_name = {}
        for seed, adapter in enumerate(self.random):
            rows = replace(self, adapter=adapter).rows(systems, advance)
            by_name.update({random_columns(label, seed): values for label, values in rows.items()})
        return by_name

    def noise(self, systems: Sequence[SystemInfo], rows: Mapping[str, Tensor]) -> NoiseByLabel:
        """As `FeatureSource.noise`. Raises ModelError for a failure of the model."""
        chosen = [self.systems[system.id] for system in systems]
        return noise_of(self.adapter, self.layers, chosen, rows, self.batch_atoms, self.reduce, timing=self.timing)

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

    def numbers(self, systems: Sequence[SystemInfo]) -> np.ndarray:
        """As `FeatureSource.numbers`."""
        return torch.cat([self.store.numbers_of(system.id) for system in systems]).numpy()

    def structures(self, systems: Sequence[SystemInfo]) -> list[System] | None:
        """As `FeatureSource.structures`: features are stored without them."""
        return None

    @property
    def random_labels(self) -> Sequence[str]:
        """As `FeatureSource.random_labels`: there is no model to run."""
        return []

    def random_rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """As `FeatureSource.random_rows`: there is no model to run."""
        return {}

    def noise(self, systems: Sequence[SystemInfo], rows: Mapping[str, Tensor]) -> NoiseByLabel:
        """As `FeatureSource.noise`: there is no model to run."""
        return {}

    def manifest(self, label: str, values: Tensor) -> Metadata:
        """The manifest of the features, with their width."""
        return self.store.manifest | {"width": self.store.width}
