"""Features of a model on structures: activations taken in the forward, kept on the device, in input order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcmp._settings import one_torch_thread, single_precision
from latentcmp._timing import Timing
from latentcmp.errors import HookError, InputError, LatentcmpError
from latentcmp.hooks.layout import Reduce
from latentcmp.hooks.points import HookPoint, find_module
from latentcmp.hooks.tap import tap
from latentcmp.models.card import Adapter
from latentcmp.models.registry import identity, load, parse
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import OnUnsupported, Screening, screen
from latentcmp.systems.system import AnySystem, System, SystemRecord, offsets, set_hash

Progress = Callable[[str, int, int], None]
BATCH_ATOMS = {"cpu": 64, "cuda": 4096}


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
    features = extract_layers(
        adapter, screening.systems, [layer], reduce=reduce, batch_atoms=batch_atoms, progress=progress
    )[layer]
    features.manifest = {**known, **features.manifest, **structures_manifest(screening)}
    return features


def extract_layers(
    adapter: Adapter,
    systems: Sequence[System],
    layers: Iterable[str],
    *,
    reduce: Reduce = "invariant",
    batch_atoms: int | None = None,
    progress: Progress | None = None,
    timing: Timing | None = None,
) -> dict[str, Features]:
    """Features of several layers from the same forwards. All `systems` must be ones that the model takes."""
    timing = timing or Timing()
    if batch_atoms is not None and batch_atoms < 1:
        raise InputError(f"batch_atoms must be at least 1, got {batch_atoms}")
    points = {layer: existing_point(adapter, layer) for layer in layers}
    total, done = sum(map(len, systems)), 0
    rows = _Rows(adapter, set(points.values()), total)
    threads = one_torch_thread() if adapter.device.type == "cpu" else nullcontext()
    with (
        torch.no_grad(),
        threads,
        single_precision(),
        tap(adapter.module, rows.points.values(), rows.put, reduce) as taps,
    ):
        for forwards, batch in enumerate(batches(systems, batch_atoms or BATCH_ATOMS[adapter.device.type]), 1):
            rows.expect(done, sum(map(len, batch)))
            run_batch(adapter, batch, timing)
            taps.check(forwards)
            done += sum(map(len, batch))
            if progress:
                progress(adapter.card.name, done, total)
    return {
        layer: _features(adapter, point, rows.values[point.name], systems, reduce) for layer, point in points.items()
    }


class _Rows:
    """Activations of each point, put in place as they are born: [n_atoms, D] on the device."""

    def __init__(self, adapter: Adapter, points: Iterable[HookPoint], n_atoms: int) -> None:
        self.points = {point.name: point for point in points}
        self.values: dict[str, Tensor] = {}
        self._adapter, self._n_atoms, self._start, self._size = adapter, n_atoms, 0, 0

    def expect(self, start: int, size: int) -> None:
        """The next forward gives rows start..start + size."""
        self._start, self._size = start, size

    def put(self, name: str, value: Tensor) -> None:
        if self.points[name].scope != "atom" or value.ndim != 2 or value.shape[0] != self._size:
            card = self._adapter.card
            raise InputError(
                f"{self.points[name]} of {card.name} gives {tuple(value.shape)} for {self._size} atoms, which is not "
                f"one row of features an atom; layers are {', '.join(known.name for known in card.points)}"
            )
        if name not in self.values:
            self.values[name] = value.new_empty(self._n_atoms, value.shape[1])
        self.values[name][self._start : self._start + self._size] = value


def run_batch(adapter: Adapter, batch: Sequence[System], timing: Timing | None = None) -> Tensor:
    """Graphs and one forward: energies [n_systems] in eV/atom. A failure names the model and the structures."""
    timing = timing or Timing()
    names = [system.id for system in batch]
    try:
        with timing.part("graphs"):
            graphs = []
            for system in batch:
                names = [system.id]
                graphs.append(adapter.graph(system.atoms))
        names = [system.id for system in batch]
        with timing.part("inference"):
            return adapter.energies(graphs)
    except LatentcmpError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(f"{adapter.card.name} ran out of GPU memory; lower --batch-atoms (batch_atoms)") from error
    except Exception as error:  # model packages raise whatever they raise
        shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise InputError(f"{adapter.card.name} failed on structure {shown}: {type(error).__name__}: {error}") from error


def batches(systems: Iterable[AnySystem], batch_atoms: int) -> Iterator[list[AnySystem]]:
    """Consecutive systems, as many as fit in `batch_atoms` atoms and at least one."""
    batch: list[AnySystem] = []
    size = 0
    for system in systems:
        if batch and size + len(system) > batch_atoms:
            yield batch
            batch, size = [], 0
        batch.append(system)
        size += len(system)
    if batch:
        yield batch


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else CUDA where there is one, else the CPU. Raises InputError for one that is absent."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; give cpu, cuda or cuda:N") from error
    if chosen.type not in BATCH_ATOMS:
        raise InputError(f"device {str(device)!r} is not supported; give cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r} was asked for, but torch sees no CUDA device here; use cpu")
    return chosen


def structures_manifest(screening: Screening[Any]) -> dict[str, Any]:
    """What a manifest records of the structures: counts, hash, and those skipped or boxed."""
    return {
        "n_systems": len(screening.systems),
        "n_atoms": sum(map(len, screening.systems)),
        "structures_hash": set_hash(screening.systems),
        "skipped": [{"id": skip.id, "reason": skip.reason} for skip in screening.skipped],
        "boxed": screening.boxed,
        "n_single_atoms": len(screening.single_atoms),
    }


def existing_point(adapter: Adapter, layer: str) -> HookPoint:
    """The hook point of a layer. Raises InputError with the list of layers where there is none."""
    point = adapter.point(layer)
    try:
        find_module(adapter.module, point.path)
    except HookError as error:
        names = ", ".join(known.name for known in adapter.card.points)
        raise InputError(
            f"{adapter.card.name} has no layer {layer!r}; layers are {names}, or a module path ({error})"
        ) from error
    return point


def _features(
    adapter: Adapter, point: HookPoint, values: Tensor, systems: Sequence[System], reduce: Reduce
) -> Features:
    ptr = torch.from_numpy(offsets(systems))
    records = [system.record for system in systems]
    ids = [record.id for record in records]
    check_finite(adapter.card.name, values, ptr, ids)
    manifest = {
        "layer": point.name,
        "module": point.path,
        "layout": point.irreps or "invariant",
        "reduce": reduce,
        "width": values.shape[1],
        "dtype": str(values.dtype).removeprefix("torch."),
        "device": str(values.device),
    }
    numbers = torch.cat([torch.from_numpy(system.atoms.numbers).long() for system in systems])
    return Features(values, ptr.to(values.device), ids, numbers, manifest, records)


def check_finite(name: str, values: Tensor, ptr: Tensor, ids: Sequence[str]) -> None:
    """Raise InputError for a NaN or an infinity in the features of `name`, with the first atom and its structure."""
    finite = torch.isfinite(values).all(dim=1)
    if bool(finite.all()):
        return
    row = int((~finite).nonzero()[0, 0])
    system = int(torch.searchsorted(ptr, row, right=True)) - 1
    raise InputError(
        f"{name} gives a NaN or an infinity for {int((~finite).sum())} of {len(values)} atoms, first atom "
        f"{row - int(ptr[system])} of structure {ids[system]!r}; leave such structures out, or mend the model"
    )
