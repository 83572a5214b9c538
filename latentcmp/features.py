"""Features of a model on structures: activations taken in the forward, kept on the device, in input order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from latentcmp.hooks.layout import Reduce
from latentcmp.models.card import Adapter
from latentcmp.models.registry import identity, load, parse
from latentcmp.running import Progress, check_finite, choose_device, counted, existing_point, run_layers
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import OnUnsupported, Screening, screen
from latentcmp.systems.system import System, offsets, set_hash


@dataclass(eq=False)
class Features:
    """Atom features of one model at one layer.

    `values` [n_atoms, D] lie on the model's device in its own dtype, `ptr` [n_systems + 1] (int64, same device)
    are the CSR offsets of the systems, named by `ids`; `numbers` [n_atoms] are atomic numbers (int64, CPU).
    """

    values: Tensor
    ptr: Tensor
    ids: list[str]
    numbers: Tensor
    manifest: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)


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
    check_finite(adapter.card.name, rows, systems)
    features = _features(adapter, layer, rows, systems, reduce)
    features.manifest = {**known, **features.manifest, **structures_manifest(screening)}
    return features


def structures_manifest(screening: Screening) -> dict[str, Any]:
    """What a manifest records of the structures: counts, hash, and those skipped or boxed."""
    return {
        "n_systems": len(screening.systems),
        "n_atoms": sum(map(len, screening.systems)),
        "structures_hash": set_hash(screening.systems),
        "skipped": [{"id": skip.id, "reason": skip.reason} for skip in screening.skipped],
        "boxed": screening.boxed,
        "n_single_atoms": len(screening.single_atoms),
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


def _features(adapter: Adapter, layer: str, values: Tensor, systems: Sequence[System], reduce: Reduce) -> Features:
    ptr = torch.from_numpy(offsets(systems)).to(values.device)
    numbers = torch.cat([torch.from_numpy(system.atoms.numbers).long() for system in systems])
    ids = [system.id for system in systems]
    return Features(values, ptr, ids, numbers, layer_manifest(adapter, layer, values, reduce))
