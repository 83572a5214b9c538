"""Extraction of features to disk, shard by shard: memory holds one shard at a time."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.progress import Advance, Progress, counted
from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.features.extract import features_of, structures_manifest
from latentcmp.features.store import FeatureStore
from latentcmp.features.writer import SHARD_ATOMS, FeatureWriter
from latentcmp.hooks.layout import Reduce
from latentcmp.models.batching import BATCH_ATOMS, blocks
from latentcmp.models.forward import run_layers
from latentcmp.models.registry import check_available, identity, load, parse
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import OnUnsupported, screen
from latentcmp.systems.system import AnySystem, System, in_canonical_order, set_hash


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
    """Extract features of a model on structures to a directory, in shards.

    Rows are in the order that a comparison of models uses. An interrupted run continues with the first shard that is
    not complete; until it ends, the directory has no index and cannot be opened as features.

    Args:
        directory: the directory, which need not exist.
        model: a model, as of `latentcmp.extract`.
        structures: as of `latentcmp.extract`.
        layer: as of `latentcmp.extract`.
        device: as of `latentcmp.extract`.
        reduce: as of `latentcmp.extract`.
        batch_atoms: as of `latentcmp.extract`.
        shard_atoms: approximate number of atoms in a shard.
        on_unsupported: as of `latentcmp.extract`.
        trust: as of `latentcmp.extract`.
        overwrite: remove all features in the directory first.
        progress: called as progress(model, atoms done, atoms in total).

    Raises:
        InputError: the directory contains other features and `overwrite` is False; also as `latentcmp.extract` does.
    """
    spec, device = parse(model, layer), choose_device(device)
    check_available(spec, trust)
    adapter = cache(lambda: load(spec, device, trust))
    card = adapter().card if spec.checkpoint else spec.card  # what a user's file accepts is known when it is loaded
    screening = screen(in_canonical_order(read_systems(structures)), [card], on_unsupported)
    batch_atoms = BATCH_ATOMS[device.type] if batch_atoms is None else batch_atoms
    request = {
        **identity(spec),
        "layer": spec.layer,
        "reduce": reduce,
        "structures_hash": set_hash(screening.systems),
        "batch_atoms": batch_atoms,
        "shard_atoms": shard_atoms,
    }
    shards = list(shards_of(screening.systems, batch_atoms, shard_atoms))
    writer = FeatureWriter(directory, request, len(shards), overwrite)
    advance = counted(progress, spec.card.name, sum(map(len, screening.systems)))
    options: dict[str, Any] = {"reduce": reduce, "batch_atoms": batch_atoms, "advance": advance}

    def run(block: Sequence[System]) -> Tensor:
        return run_layers(adapter(), [spec.layer], block, **options)[spec.layer]

    def features(shard: list[Sequence[System]]) -> Features:
        systems = [system for block in shard for system in block]
        return features_of(adapter(), spec.layer, torch.cat(list(map(run, shard))), systems, reduce)

    _write_shards(writer, shards, features, advance)
    records = [system.record for system in screening.systems]
    writer.finish(records, {**identity(spec), **structures_manifest(screening)})
    return FeatureStore.open(Path(directory))


def _write_shards(
    writer: FeatureWriter,
    shards: list[list[Sequence[System]]],
    features: Callable[[list[Sequence[System]]], Features],
    advance: Advance | None,
) -> None:
    """Compute and write the shards that are not complete."""
    first = 0
    for number, shard in enumerate(shards):
        counts = [len(system) for block in shard for system in block]
        if not writer.is_written(number):
            made = features(shard)
            writer.write(number, made.values, counts, made.numbers, made.manifest, first)
        elif advance:
            advance(sum(counts))
        first += len(counts)


def shards_of(systems: Sequence[AnySystem], batch_atoms: int, shard_atoms: int) -> Iterator[list[Sequence[AnySystem]]]:
    """Yield shards: consecutive blocks that have `shard_atoms` atoms or more together.

    The blocks are those of a comparison that runs the models, so batches and features are the same.
    """
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
