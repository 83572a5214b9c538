"""From the models of a comparison to its sources: load models, open features, screen or join structures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.progress import Timing
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.model_inputs import InMemory
from latentcmp.comparison.sources import FeatureSource, ModelSource, StoreSource
from latentcmp.errors import InputError
from latentcmp.features.join import ScreenedSystems, SystemTable, join
from latentcmp.features.open import features_path, is_features, open_features
from latentcmp.features.stored import FeaturesInMemory, StoredFeatures
from latentcmp.measures.baseline_rows import RANDOM_SEEDS
from latentcmp.models.card import Adapter
from latentcmp.models.forward import existing_point
from latentcmp.models.registry import ModelSpec, check_available, identity, installed_version, load, parse_all
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import Screening, screen
from latentcmp.systems.system import in_canonical_order

if TYPE_CHECKING:
    from latentcmp.comparison.config import CompareConfig


class Opened(NamedTuple):
    """The sources of a comparison, the structures that all of them have, and metadata by label."""

    sources: list[FeatureSource]
    screening: Screening[Any]
    manifests: dict[str, Metadata]


@dataclass(frozen=True)
class Request:
    """What the sources are opened for: the options, the structures, the device and the inputs that are no text."""

    config: "CompareConfig"
    structures: Structures | None
    device: torch.device
    in_memory: InMemory
    timing: Timing


class _Model(NamedTuple):
    """A loaded model, and the layers asked of it by label."""

    adapter: Adapter
    layers: dict[str, str]


def device_of(config: "CompareConfig", in_memory: InMemory) -> torch.device:
    """The device of a comparison: as configured, else that of the models already loaded, else the default.

    Raises:
        InputError: a loaded model is on another device.
    """
    adapters = {label: model for label, model in in_memory.items() if isinstance(model, Adapter)}
    placed = [str(adapter.device) for adapter in adapters.values()]
    device = choose_device(config.device or next(iter(placed), None))
    for label, adapter in adapters.items():
        if (adapter.device.type, adapter.device.index or 0) != (device.type, device.index or 0):
            raise InputError(f"{label} is on {adapter.device}, the comparison on {device}; load all models on one")
    return device


def open_sources(request: Request) -> Opened:
    """Load the models and open the features of a comparison, and screen or join their structures.

    Raises:
        InputError: an input is wrong, or no structure is common to all.
        MissingPackageError: the package of a model is not installed.
        UntrustedCheckpointError: a checkpoint needs pickle and was not trusted.
    """
    config = request.config
    stores = _open_stores(config.models, request.in_memory)
    names = [text for text in config.models if text not in stores]
    if not stores:
        return _open_models(names, request)
    if request.structures is not None and not names:
        raise InputError("structures were given, but no model to run on them; features have structures of their own")
    sources: list[FeatureSource] = [StoreSource(store, request.device) for store in stores.values()]
    manifests = {store.label: _stored_manifest(store) for store in stores.values()}
    parties: list[SystemTable] = list(stores.values())
    if names:
        models = _open_models(names, request)
        parties.append(ScreenedSystems(", ".join(names), models.screening))
        sources, manifests = [*sources, *models.sources], manifests | models.manifests
    with request.timing.part("structures"):
        screening = join(parties, config.on_unsupported)
    labels = [stores[text].label if text in stores else text for text in config.models]
    return Opened(sources, screening, {label: manifests[label] for label in labels})


def _open_models(names: Sequence[str], request: Request) -> Opened:
    """Named models and loaded ones on structures that all of them support, in the order of the names."""
    config, timing = request.config, request.timing
    texts = [name for name in names if name not in request.in_memory]
    specs = parse_all(texts, config.layer) if texts else []
    for spec in specs:
        check_available(spec, config.trust)
    with timing.part("structures"):
        systems = read_systems(request.structures)
    loaded = _loaded(names, request)
    with timing.part("imports and loading"):
        models = [*_load(specs, request), *loaded]
        random = [_with_random_weights(model.adapter, config) for model in models]
    for model in models:
        _check_layers(model)
    with timing.part("structures"):
        cards = [model.adapter.card for model in models]
        screening = screen(in_canonical_order(systems), cards, config.on_unsupported)
    by_id = {system.id: system for system in screening.systems}
    sources: list[FeatureSource] = [
        ModelSource(model.adapter, by_id, model.layers, config.reduce, config.batch_atoms, timing, of_model)
        for model, of_model in zip(models, random, strict=True)
    ]
    manifests = {spec.label: identity(spec) | {"source": "model"} for spec in specs}
    manifests |= {label: _loaded_manifest(model.adapter) for model in loaded for label in model.layers}
    return Opened(sources, screening, {name: manifests[name] for name in names})


def _load(specs: Sequence[ModelSpec], request: Request) -> list[_Model]:
    """Named models, each loaded once for all of its layers."""
    layers: dict[tuple[str, str], dict[str, str]] = {}
    for spec in specs:
        layers.setdefault(spec.source, {})[spec.label] = spec.layer
    first = {spec.source: spec for spec in reversed(specs)}
    return [
        _Model(load(first[source], request.device, request.config.trust), of_labels)
        for source, of_labels in layers.items()
    ]


def _with_random_weights(adapter: Adapter, config: "CompareConfig") -> list[Adapter]:
    """The architecture of a model with the random weights of each seed; empty where none are needed or possible."""
    if not config.has_full_baselines:
        return []
    made = (adapter.with_random_weights(seed) for seed in range(RANDOM_SEEDS))
    return [of_seed for of_seed in made if of_seed]


def _loaded(names: Sequence[str], request: Request) -> list[_Model]:
    """The models that the caller had loaded, each at the layer of the comparison."""
    models = {name: request.in_memory.get(name) for name in names}
    return [_Model(m, {name: request.config.layer}) for name, m in models.items() if isinstance(m, Adapter)]


def _check_layers(model: _Model) -> None:
    """Raise InputError for a layer that does not exist, or that goes under two names."""
    seen: dict[str, str] = {}
    for label, layer in model.layers.items():
        path = existing_point(model.adapter, layer).path
        twin = seen.setdefault(path, label)
        if twin != label:
            raise InputError(f"{label!r} and {twin!r} are the same layer, module {path!r}; give it once")


def _open_stores(texts: Sequence[str], in_memory: InMemory) -> dict[str, StoredFeatures]:
    """Features by the text given; a directory is labelled by its name, or by its path where the name is not unique."""
    stores = {text: model for text, model in in_memory.items() if isinstance(model, StoredFeatures)}
    paths = {text: features_path(text) for text in texts if text not in in_memory and is_features(text)}
    opened = {text: open_features(path) for text, path in paths.items()}
    _check_distinct([features_path(text) for text in texts if text in paths])
    count = Counter([*(text for text in texts if text not in paths), *(store.label for store in opened.values())])
    for text, store in opened.items():
        store.label = str(paths[text]) if count[store.label] > 1 else store.label
    return {text: (stores | opened)[text] for text in texts if text in stores or text in opened}


def _check_distinct(paths: Sequence[Path]) -> None:
    """Raise InputError for a directory given twice."""
    for position, path in enumerate(paths):
        if any(path.samefile(other) for other in paths[:position]):
            raise InputError(f"features {path} were given twice; give each once")


def _stored_manifest(store: StoredFeatures) -> Metadata:
    source = "features in memory" if isinstance(store, FeaturesInMemory) else "stored features"
    return store.manifest | {"source": source}


def _loaded_manifest(adapter: Adapter) -> Metadata:
    """Metadata of a loaded model, whose weights may differ from those of its checkpoint."""
    card = adapter.card
    names = {"name": card.name, "family": card.family, "package": card.package}
    return names | {"package_version": installed_version(card), "source": "loaded model"}
