"""Features of the checkpoints at both layers, from one forward each, in stores that a later run continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch

from latentcmp import open_features
from latentcmp._runtime.types import Metadata
from latentcmp.features.extract import features_of, structures_manifest
from latentcmp.features.extract_to import shards_of
from latentcmp.features.stored import StoredFeatures
from latentcmp.features.writer import FeatureWriter
from latentcmp.models.batching import BATCH_ATOMS
from latentcmp.models.card import Adapter
from latentcmp.models.forward import run_layers
from latentcmp.models.registry import identity, load, parse
from latentcmp.systems.builtin import builtin_systems
from latentcmp.systems.screen import Screening, screen
from latentcmp.systems.system import System, in_canonical_order, set_hash

LAYERS = ("last", "backbone")
SHARD_ATOMS = 512  # a minute of the slowest checkpoint on one core

Shard = list[Sequence[System]]
"""Blocks of structures."""


def screened(models: Sequence[str], subset: str = "", limit: int | None = None) -> Screening[System]:
    """The built-in structures that all checkpoints accept, or the first few of a subset."""
    systems = [system for system in builtin_systems() if system.subset.startswith(subset)]
    return screen(in_canonical_order(systems)[:limit], [parse(name).card for name in models])


def store_path(folder: Path, model: str, layer: str) -> Path:
    """The folder of the features of a layer."""
    return folder / f"{model}@{layer}"


def extract_layers(folder: Path, model: str, screening: Screening[System]) -> dict[str, StoredFeatures]:
    """Features of a checkpoint by layer, computed where the folder does not have them yet."""
    paths = {layer: store_path(folder, model, layer) for layer in LAYERS}
    shards = list(shards_of(screening.systems, BATCH_ATOMS["cpu"], SHARD_ATOMS))
    request = _request(model, screening)
    writers = {layer: FeatureWriter(path, {**request, "layer": layer}, len(shards)) for layer, path in paths.items()}
    _write_missing(writers, model, shards)
    for writer in writers.values():
        records = [system.record for system in screening.systems]
        writer.finish(records, {**identity(parse(model)), **structures_manifest(screening)})
    return {layer: open_features(path) for layer, path in paths.items()}


def _request(model: str, screening: Screening[System]) -> Metadata:
    """What the features are of; a folder with features of anything else is an error."""
    return {
        **identity(parse(model)),
        "reduce": "invariant",
        "structures_hash": set_hash(screening.systems),
        "batch_atoms": BATCH_ATOMS["cpu"],
        "shard_atoms": SHARD_ATOMS,
    }


def _write_missing(writers: dict[str, FeatureWriter], model: str, shards: Sequence[Shard]) -> None:
    """Run the checkpoint on the shards that are not complete in both layers."""
    firsts = [0, *accumulate(sum(map(len, shard)) for shard in shards)]
    missing = [n for n in range(len(shards)) if not all(writer.is_written(n) for writer in writers.values())]
    adapter = load(model, "cpu", trust=True) if missing else None
    for done, number in enumerate(missing, 1):
        assert adapter is not None
        _write_shard(writers, adapter, number, shards[number], firsts[number])
        print(f"{model}: {done} of {len(missing)} shards of features", flush=True)


def _write_shard(writers: dict[str, FeatureWriter], adapter: Adapter, number: int, shard: Shard, first: int) -> None:
    """Run the blocks of a shard one by one, in the batches of a comparison, and write both layers."""
    values = [run_layers(adapter, LAYERS, block) for block in shard]
    systems = [system for block in shard for system in block]
    counts = [len(system) for system in systems]
    for layer, writer in writers.items():
        made = features_of(adapter, layer, torch.cat([of[layer] for of in values]), systems, "invariant")
        writer.write(number, made.values, counts, made.numbers, made.manifest, first)


def matrices(stores: Mapping[str, StoredFeatures]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Features [n_atoms, D] by name, and the group of every atom."""
    some = next(iter(stores.values()))
    groups = [system.group for system in some.systems for _ in range(len(system))]
    return {name: store.to_features().values for name, store in stores.items()}, groups
