"""Comparisons of features at rest, alone or beside models that are run."""

import os
from collections import Counter
from collections.abc import Sequence

import torch

from latentcmp._timing import Timing
from latentcmp.comparison import Comparison
from latentcmp.conductor import compare_extracted, make_split
from latentcmp.config import CompareConfig
from latentcmp.errors import InputError
from latentcmp.features import Features, Progress, choose_device, extract
from latentcmp.joined import differing, join
from latentcmp.store import is_features, open_features
from latentcmp.store.stored import FeaturesInMemory, StoredFeatures
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.system import System, SystemRecord, in_canonical_order, offsets


def compare_stores(
    stores: Sequence[StoredFeatures],
    config: CompareConfig | None = None,
    progress: Progress | None = None,
    timing: Timing | None = None,
) -> Comparison:
    """Errors between stored features, joined on structure, atom and element; the numbers are those of the models.

    Structures that one of them lacks are left out for all and listed in `manifest["structures"]["skipped"]`, those
    whose positions or cells are not quite the same in `["differing"]`. Raises InputError where atoms differ.
    """
    config, timing = config or CompareConfig.of(), timing or Timing()
    with timing.part("reading features"):
        screening = join(stores, config.on_unsupported)
        split = make_split(config, screening)
        device = choose_device(config.device)
        features = {store.label: _rows(store, screening.systems, device) for store in stores}
    comparison = compare_extracted(config, features, screening, split, progress, timing)
    comparison.manifest["structures"]["differing"] = differing(stores, screening.systems)
    return comparison


def run_with_stores(
    config: CompareConfig, structures: Structures | None = None, progress: Progress | None = None
) -> Comparison:
    """`latentcmp.conductor.run` where some of `config.models` are directories of features; the others are run."""
    timing = Timing()
    named = [text for text in config.models if not is_features(text)]
    if structures is not None and not named:
        raise InputError("structures were given, but no model to run on them; stored features know their own")
    stores = _open([text for text in config.models if is_features(text)], taken=named)
    systems = in_canonical_order(read_systems(structures)) if named else []
    sources: list[StoredFeatures] = []
    for text in config.models:
        sources.append(stores[text] if text in stores else _extracted(text, systems, config, progress, timing))
    return compare_stores(sources, config, progress, timing)


def _open(paths: Sequence[str], taken: Sequence[str]) -> dict[str, StoredFeatures]:
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


def _extracted(
    text: str, systems: list[System], config: CompareConfig, progress: Progress | None, timing: Timing
) -> StoredFeatures:
    with timing.part("models"):
        features = extract(
            text,
            systems,
            config.layer,
            config.device,
            reduce=config.reduce,
            batch_atoms=config.batch_atoms,
            on_unsupported=config.on_unsupported,
            trust=config.trust,
            progress=progress,
        )
    return FeaturesInMemory(text, features)


def _rows(store: StoredFeatures, systems: Sequence[SystemRecord], device: torch.device) -> Features:
    """The features of these systems, in this order, on the device."""
    ids, ptr = [system.id for system in systems], torch.from_numpy(offsets(systems))
    numbers = torch.cat([store.numbers_of(id) for id in ids])
    return Features(store.rows(ids).to(device), ptr.to(device), ids, numbers, store.manifest, list(systems))
