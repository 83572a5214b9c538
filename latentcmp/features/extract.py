"""Features of a model on structures: activations taken in the forward, kept on the device, in input order."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.progress import Progress, counted
from latentcmp.features.data import Features
from latentcmp.features.finite import check_finite
from latentcmp.hooks.layout import Reduce
from latentcmp.models.card import Adapter
from latentcmp.models.forward import existing_point, run_layers
from latentcmp.models.registry import identity, load, parse
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import OnUnsupported, Screening, screen
from latentcmp.systems.system import System, offsets, set_hash


def extract(
    model: str | Adapter,
    structures: Structures | None = None,
    layer: str = "last",
    device: str | torch.device | None = None,
    *,
    reduce: Reduce = "invariant",
    batch_atoms: int | None = None,
    on_unsupported: OnUnsupported = "skip",
    trust: bool = False,
    progress: Progress | None = None,
) -> Features:
    """Features of a model on structures.

    `model` is a name (`latentcmp models` lists them), FAMILY:CHECKPOINT, or a loaded adapter; `structures` a path,
    several paths or a list of Atoms (None: the built-in set). `layer` is "last", "backbone" or any module path;
    `reduce` says what becomes of equivariant columns (`latentcmp.hooks.layout.reduce_columns`). Structures that the
    model cannot take are left out and listed in `manifest["skipped"]`. Raises InputError, MissingPackageError,
    HookError.
    """
    device = choose_device(device)
    if isinstance(model, Adapter):
        adapter, known = model, {"name": model.card.name}
    else:
        spec = parse(model, layer)
        layer = spec.layer
        adapter, known = load(spec, device, trust), identity(spec)
    screening = screen(read_systems(structures), [adapter.card], on_unsupported)
    systems = screening.systems
    advance = counted(progress, adapter.card.name, sum(map(len, systems)))
    rows = run_layers(adapter, [layer], systems, reduce=reduce, batch_atoms=batch_atoms, advance=advance)[layer]
    features = features_of(adapter, layer, rows, systems, reduce)
    features.manifest = {**known, **features.manifest, **structures_manifest(screening)}
    return features


def structures_manifest(screening: Screening[Any]) -> dict[str, Any]:
    """What a manifest records of the structures: counts, hash, and those skipped or boxed."""
    return {
        "n_systems": len(screening.systems),
        "n_atoms": sum(map(len, screening.systems)),
        "structures_hash": set_hash(screening.systems),
        "skipped": [{"id": skip.id, "reason": skip.reason} for skip in screening.skipped],
        "boxed": screening.boxed,
        "n_single_atoms": len(screening.single_atoms),
        "differing": screening.differing,
    }


def layer_manifest(adapter: Adapter, layer: str, values: Tensor, reduce: Reduce) -> dict[str, Any]:
    """What a manifest records of features: where they were taken and what they are."""
    point = existing_point(adapter, layer)
    return {
        "layer": point.name,
        "module": point.path,
        "layout": point.irreps or "invariant",
        "reduce": reduce,
        "width": values.shape[1],
        "dtype": str(values.dtype).removeprefix("torch."),
        "device": str(values.device),
    }


def features_of(adapter: Adapter, layer: str, values: Tensor, systems: Sequence[System], reduce: Reduce) -> Features:
    """Features from the rows of a layer. Raises InputError for values that are not finite."""
    check_finite(adapter.card.name, values, systems)
    ptr = torch.from_numpy(offsets(systems)).to(values.device)
    numbers = torch.cat([torch.from_numpy(system.atoms.numbers).long() for system in systems])
    records = [system.record for system in systems]
    manifest = layer_manifest(adapter, layer, values, reduce)
    return Features(values, ptr, [record.id for record in records], numbers, manifest, records)
