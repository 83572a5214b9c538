"""Features of a model on structures: activations taken in the forward, kept on the device, in input order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcmp.finite import check_finite
from latentcmp.hooks.layout import Reduce
from latentcmp.models.card import Adapter
from latentcmp.models.registry import identity, load, parse
from latentcmp.running import Progress, choose_device, counted, existing_point, run_layers
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import OnUnsupported, Screening, screen
from latentcmp.systems.system import System, SystemRecord, offsets, set_hash


@dataclass(eq=False)
class Features:
    """Atom features of one model at one layer.

    `values` [n_atoms, D] lie on the model's device in its own dtype, `ptr` [n_systems + 1] (int64, same device)
    are the CSR offsets of the systems, named by `ids`; `numbers` [n_atoms] are atomic numbers (int64, CPU). `systems`
    say more of each system than its id, where more is known.
    """

    values: Tensor
    ptr: Tensor
    ids: list[str]
    numbers: Tensor
    manifest: dict[str, Any] = field(default_factory=dict)
    systems: list[SystemRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def records(self) -> list[SystemRecord]:
        """What is kept of each system beside its rows; a system of which only the id is known is its own group."""
        counts = self.ptr.diff().tolist()
        return self.systems or [SystemRecord(id, count, id) for id, count in zip(self.ids, counts, strict=True)]

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write a directory that `latentcmp compare` and `Features.load` take. Raises InputError where it cannot.

        Features that are there already are replaced only with `overwrite`.
        """
        from latentcmp.store.extraction import save

        save(self, Path(directory), overwrite)

    @classmethod
    def load(cls, directory: str | Path) -> "Features":
        """All features of a directory (`latentcmp.store.open_features`), on the CPU. Raises InputError."""
        from latentcmp.store import open_features

        return open_features(directory).to_features()


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
