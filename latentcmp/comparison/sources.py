"""Where features come from, block by block: loaded models, and directories of features."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.progress import Advance, Timing
from latentcmp.comparison.config import CompareConfig
from latentcmp.errors import InputError
from latentcmp.features.extract import layer_manifest
from latentcmp.features.join import ScreenedSystems, SystemTable, join
from latentcmp.features.open import is_features, open_features
from latentcmp.features.stored import StoredFeatures
from latentcmp.hooks.layout import Reduce
from latentcmp.models.card import Adapter
from latentcmp.models.forward import existing_point, run_layers
from latentcmp.models.registry import ModelSpec, check_available, identity, load, parse_all
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import Screening, screen
from latentcmp.systems.system import System, SystemInfo, in_canonical_order


class Source(Protocol):
    """What the conductor asks of a source of features."""

    @property
    def name(self) -> str:
        """What its progress is shown under."""

    def rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """Features {label: [n_atoms, D]} of systems, in their order, on the device of the comparison."""

    def manifest(self, label: str, values: Tensor) -> dict[str, Any]:
        """What is known of the features of a label."""


@dataclass
class ModelSource:
    """A loaded model with the layers that are asked of it, by label, and the structures it can be asked for, by id."""

    adapter: Adapter
    systems: Mapping[str, System]
    layers: Mapping[str, str]
    reduce: Reduce
    batch_atoms: int | None
    timing: Timing

    @property
    def name(self) -> str:
        return self.adapter.card.name

    def rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """Raises InputError for a failure of the model."""
        found = run_layers(
            self.adapter,
            self.layers.values(),
            [self.systems[system.id] for system in systems],
            reduce=self.reduce,
            batch_atoms=self.batch_atoms,
            timing=self.timing,
            advance=advance,
        )
        return {label: found[layer] for label, layer in self.layers.items()}

    def manifest(self, label: str, values: Tensor) -> dict[str, Any]:
        return layer_manifest(self.adapter, self.layers[label], values, self.reduce)


@dataclass
class StoreSource:
    """Features at rest."""

    store: StoredFeatures
    device: torch.device

    @property
    def name(self) -> str:
        return self.store.label

    def rows(self, systems: Sequence[SystemInfo], advance: Advance | None = None) -> dict[str, Tensor]:
        """Raises InputError for damage, and for values that are not finite."""
        values = self.store.rows([system.id for system in systems]).to(self.device)
        if advance:
            advance(len(values))
        return {self.store.label: values}

    def manifest(self, label: str, values: Tensor) -> dict[str, Any]:
        return self.store.manifest | {"width": self.store.width}


class Opened(NamedTuple):
    """The sources of a comparison, the structures that all of them have, and what is known of each label."""

    sources: list[Source]
    screening: Screening[Any]
    known: dict[str, dict[str, Any]]


def open_sources(config: CompareConfig, structures: Structures | None, timing: Timing) -> Opened:
    """Load the models and open the features that a comparison names, and screen or join their structures.

    Raises InputError, MissingPackageError or UntrustedCheckpointError.
    """
    stored = [text for text in config.models if is_features(text)]
    named = [text for text in config.models if text not in stored]
    device = choose_device(config.device)
    if not stored:
        return _open_models(parse_all(named, config.layer), device, config, structures, timing)
    if structures is not None and not named:
        raise InputError("structures were given, but no model to run on them; stored features know their own")
    stores = _open_stores(stored, taken=named)
    sources: list[Source] = [StoreSource(store, device) for store in stores.values()]
    known = {store.label: store.manifest for store in stores.values()}
    parties: list[SystemTable] = list(stores.values())
    if named:
        models = _open_models(parse_all(named, config.layer), device, config, structures, timing)
        parties.append(ScreenedSystems(", ".join(named), models.screening))
        sources, known = [*sources, *models.sources], known | models.known
    with timing.part("structures"):
        screening = join(parties, config.on_unsupported)
    labels = [stores[text].label if text in stores else text for text in config.models]
    return Opened(sources, screening, {label: known[label] for label in labels})


def _open_models(
    specs: Sequence[ModelSpec],
    device: torch.device,
    config: CompareConfig,
    structures: Structures | None,
    timing: Timing,
) -> Opened:
    for spec in specs:
        check_available(spec, config.trust)
    with timing.part("structures"):
        systems = read_systems(structures)
    with timing.part("imports and loading"):
        adapters = {spec.source: load(spec, device, config.trust) for spec in specs}
    _check_layers(specs, adapters)
    with timing.part("structures"):
        cards = [adapter.card for adapter in adapters.values()]
        screening = screen(in_canonical_order(systems), cards, config.on_unsupported)
    by_id = {system.id: system for system in screening.systems}
    sources: list[Source] = []
    for key, adapter in adapters.items():
        layers = {spec.label: spec.layer for spec in specs if spec.source == key}
        sources.append(ModelSource(adapter, by_id, layers, config.reduce, config.batch_atoms, timing))
    return Opened(sources, screening, {spec.label: identity(spec) for spec in specs})


def _check_layers(specs: Sequence[ModelSpec], adapters: dict[tuple[str, str], Adapter]) -> None:
    """Raise InputError for a layer that does not exist, or that goes under two names."""
    seen: dict[tuple[tuple[str, str], str], str] = {}
    for spec in specs:
        point = existing_point(adapters[spec.source], spec.layer)
        twin = seen.setdefault((spec.source, point.path), spec.label)
        if twin is not spec.label:
            raise InputError(f"{spec.label!r} and {twin!r} are the same layer, module {point.path!r}; give it once")


def _open_stores(paths: Sequence[str], taken: Sequence[str]) -> dict[str, StoredFeatures]:
    """Stores by path, each called by the name of its directory, or by its path where that name is taken."""
    stores: dict[str, StoredFeatures] = {}
    for path in paths:
        opened = open_features(path)
        if any(os.path.samefile(path, other) for other in stores):
            raise InputError(f"features {path} were given twice; give each once")
        stores[path] = opened
    names = Counter([*taken, *(store.label for store in stores.values())])
    for path, store in stores.items():
        store.label = path if names[store.label] > 1 else store.label
    return stores
