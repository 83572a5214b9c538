"""A model's features to disk, shard by shard, so that memory holds one shard at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.progress import Progress, counted
from latentcmp.errors import InputError
from latentcmp.features.extract import features_of, structures_manifest
from latentcmp.features.store import FeatureStore
from latentcmp.features.writer import SHARD_ATOMS, FeatureWriter
from latentcmp.hooks.layout import Reduce
from latentcmp.models.batching import BATCH_ATOMS, blocks
from latentcmp.models.forward import run_layers
from latentcmp.models.registry import check_available, identity, load, parse
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import OnUnsupported, screen
from latentcmp.systems.system import AnySystem, in_canonical_order, set_hash


def extract_to(
    directory: str | Path,
    model: str,
    structures: Structures | None = None,
    layer: str = "last",
    device: str | torch.device | None = None,
    *,
    reduce: Reduce = "invariant",
    batch_atoms: int | None = None,
    shard_atoms: int = SHARD_ATOMS,
    on_unsupported: OnUnsupported = "skip",
    trust: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FeatureStore:
    """Features of a model on structures, written to `directory` in shards of about `shard_atoms` atoms.

    Options are those of `latentcmp.extract`. Rows are in the order that a comparison of models uses. A run that was
    interrupted goes on where it stopped; until it ends, the directory has no index and does not read as features.
    Raises InputError where the directory holds other features, unless `overwrite`, and what `extract` raises.
    """
    spec, device = parse(model, layer), choose_device(device)
    check_available(spec, trust)
    screening = screen(in_canonical_order(read_systems(structures)), [spec.card], on_unsupported)
    size = BATCH_ATOMS[device.type] if batch_atoms is None else batch_atoms
    known = identity(spec)
    request = {
        **known,
        "layer": spec.layer,
        "reduce": reduce,
        "structures_hash": set_hash(screening.systems),
        "batch_atoms": size,
        "shard_atoms": shard_atoms,
    }
    shards = list(shards_of(screening.systems, size, shard_atoms))
    writer = FeatureWriter(directory, request, len(shards), overwrite)
    complete = all(writer.held(number) for number in range(len(shards)))
    adapter = None if complete else load(spec, device, trust)
    advance = counted(progress, spec.card.name, sum(map(len, screening.systems)))
    first = 0
    for number, shard in enumerate(shards):
        systems = [system for block in shard for system in block]
        if adapter and not writer.held(number):
            options: dict[str, Any] = {"reduce": reduce, "batch_atoms": size, "advance": advance}
            rows = [run_layers(adapter, [spec.layer], block, **options)[spec.layer] for block in shard]
            features = features_of(adapter, spec.layer, torch.cat(rows), systems, reduce)
            counts = [len(system) for system in systems]
            writer.put(number, features.values, counts, features.numbers, features.manifest, first)
        elif advance:
            advance(sum(map(len, systems)))
        first += len(systems)
    records = [system.record for system in screening.systems]
    writer.finish(records, {**known, **structures_manifest(screening)})
    return FeatureStore.open(Path(directory))


def shards_of(systems: Sequence[AnySystem], batch_atoms: int, shard_atoms: int) -> Iterator[list[Sequence[AnySystem]]]:
    """Whole blocks until they hold `shard_atoms` atoms: the batches are those of a comparison without files."""
    if min(batch_atoms, shard_atoms) < 1:
        raise InputError(f"batch_atoms and shard_atoms must be at least 1, got {batch_atoms} and {shard_atoms}")
    shard: list[Sequence[AnySystem]] = []
    size = 0
    for start, stop in blocks([len(system) for system in systems], batch_atoms):
        shard.append(systems[start:stop])
        size += sum(map(len, shard[-1]))
        if size >= shard_atoms:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard
