"""Extraction of features: activations of a model on structures, on its device, in the order of the input."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.progress import Progress, counted
from latentcmp._runtime.types import Metadata
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
    """Extract features of a model on structures.

    Args:
        model: a name (`latentcmp models` lists them), FAMILY:CHECKPOINT, or a loaded adapter.
        structures: a path or several, ASE Atoms or several; None: the built-in set.
        layer: "last", "backbone", another hook point of the model, or any module path.
        device: "cpu", "cuda" or "cuda:N"; None: CUDA where it is available.
        reduce: what is kept of equivariant columns (`latentcmp.hooks.layout.reduce_columns`).
        batch_atoms: atoms in a batch; None: 64 on a CPU, 4096 on CUDA.
        on_unsupported: "skip" leaves out structures that the model does not accept and lists them in
            `manifest["skipped"]`, "error" raises for the first.
        trust: use checkpoints whose loading can run code from the file.
        progress: called as progress(model, atoms done, atoms in total).

    Returns:
        Features [n_atoms, D] on the device, in the order of the structures.

    Raises:
        InputError: the model, the layer or a structure is not valid, or a feature is not finite.
        MissingPackageError: the model's package is not installed.
        UntrustedCheckpointError: the checkpoint needs `trust`.
        HookError: the layer cannot be tapped.
        ModelError: the model failed.
    """
    device = choose_device(device)
    if isinstance(model, Adapter):
        adapter, metadata = model, {"name": model.card.name}
    else:
        spec = parse(model, layer)
        layer = spec.layer
        adapter, metadata = load(spec, device, trust), identity(spec)
    screening = screen(read_systems(structures), [adapter.card], on_unsupported)
    systems = screening.systems
    advance = counted(progress, adapter.card.name, sum(map(len, systems)))
    rows = run_layers(adapter, [layer], systems, reduce=reduce, batch_atoms=batch_atoms, advance=advance)[layer]
    features = features_of(adapter, layer, rows, systems, reduce)
    features.manifest = {**metadata, **features.manifest, **structures_manifest(screening)}
    return features


def structures_manifest(screening: Screening[Any]) -> Metadata:
    """Return the metadata of structures: counts, hash, and the ids of those skipped or boxed."""
    return {
        "n_systems": len(screening.systems),
        "n_atoms": sum(map(len, screening.systems)),
        "structures_hash": set_hash(screening.systems),
        "skipped": [{"id": skip.id, "reason": skip.reason} for skip in screening.skipped],
        "boxed": screening.boxed,
        "n_single_atoms": len(screening.single_atoms),
        "differing": screening.differing,
    }


def layer_manifest(adapter: Adapter, layer: str, values: Tensor, reduce: Reduce) -> Metadata:
    """Return the metadata of features [n_atoms, D]: layer, module, layout, dtype, device."""
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
    """Return features from the rows [n_atoms, D] of a layer. Raises InputError for values that are not finite."""
    check_finite(adapter.card.name, values, systems)
    ptr = torch.from_numpy(offsets(systems)).to(values.device)
    numbers = torch.cat([torch.from_numpy(system.atoms.numbers).long() for system in systems])
    records = [system.record for system in systems]
    manifest = layer_manifest(adapter, layer, values, reduce)
    return Features(values, ptr, [record.id for record in records], numbers, manifest, records)
