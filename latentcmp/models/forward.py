"""Running a model on structures in batches, with the activations of its layers copied into one matrix each."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from latentcmp._runtime.progress import Advance, Timing
from latentcmp._runtime.settings import one_torch_thread, single_precision
from latentcmp.errors import HookError, InputError, LatentcmpError, ModelError
from latentcmp.hooks.layout import Reduce
from latentcmp.hooks.points import HookPoint, find_module
from latentcmp.hooks.tap import tap
from latentcmp.models.batching import BATCH_ATOMS, batches
from latentcmp.models.card import Adapter
from latentcmp.systems.system import System


def run_layers(
    adapter: Adapter,
    layers: Iterable[str],
    systems: Sequence[System],
    *,
    reduce: Reduce = "invariant",
    batch_atoms: int | None = None,
    timing: Timing | None = None,
    advance: Advance | None = None,
) -> dict[str, Tensor]:
    """Run a model on structures and return the features of several layers from the same forwards.

    Args:
        adapter: the model.
        layers: names of hook points, or module paths.
        systems: structures that the model accepts.
        reduce: what is kept of equivariant columns (`latentcmp.hooks.layout.reduce_columns`).
        batch_atoms: atoms in a batch; None: `BATCH_ATOMS` of the device.
        timing: adds the times of graphs and forwards to it.
        advance: called with the number of atoms of every batch that is done.

    Returns:
        Features [n_atoms, D] by layer, on the model's device in its dtype.

    Raises:
        InputError: a layer does not exist, or does not give one row for each atom.
        HookError: a layer cannot be tapped, or its module was not called as often as declared.
        ModelError: the model failed.
    """
    if batch_atoms is not None and batch_atoms < 1:
        raise InputError(f"batch_atoms must be at least 1, got {batch_atoms}")
    points = {layer: existing_point(adapter, layer) for layer in layers}
    rows = _Rows(adapter, points.values(), sum(map(len, systems)))
    threads = one_torch_thread() if adapter.device.type == "cpu" else nullcontext()
    with (
        torch.no_grad(),
        threads,
        single_precision(),
        tap(adapter.module, rows.points.values(), rows.put, reduce) as taps,
    ):
        for forwards, batch in enumerate(batches(systems, batch_atoms or BATCH_ATOMS[adapter.device.type]), 1):
            rows.size = sum(map(len, batch))
            run_batch(adapter, batch, timing)
            taps.check(forwards)
            rows.start += rows.size
            if advance:
                advance(rows.size)
    return {layer: rows.values[point.name] for layer, point in points.items()}


class _Rows:
    """Features of each point; the next forward gives rows start..start + size."""

    def __init__(self, adapter: Adapter, points: Iterable[HookPoint], n_atoms: int) -> None:
        self.points = {point.name: point for point in points}
        self.values: dict[str, Tensor] = {}
        self.start = self.size = 0
        self._adapter, self._n_atoms = adapter, n_atoms

    def put(self, name: str, value: Tensor) -> None:
        if self.points[name].scope != "atom" or value.ndim != 2 or value.shape[0] != self.size:
            card = self._adapter.card
            raise InputError(
                f"{self.points[name]} of {card.name} gives {tuple(value.shape)} for {self.size} atoms, which is not "
                f"one row for each atom; layers are {', '.join(point.name for point in card.points)}"
            )
        if name not in self.values:
            self.values[name] = value.new_empty(self._n_atoms, value.shape[1])
        self.values[name][self.start : self.start + self.size] = value


def run_batch(adapter: Adapter, batch: Sequence[System], timing: Timing | None = None) -> Tensor:
    """Run one forward of some structures.

    Returns:
        Energies [n_systems] in eV/atom.

    Raises:
        ModelError: the model failed; the message names it and the structures.
    """
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
        raise ModelError(f"{adapter.card.name} ran out of GPU memory; lower --batch-atoms (batch_atoms)") from error
    except Exception as error:  # model packages raise whatever they raise
        shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ModelError(f"{adapter.card.name} failed on structure {shown}: {type(error).__name__}: {error}") from error


def existing_point(adapter: Adapter, layer: str) -> HookPoint:
    """Return the hook point of a layer. Raises InputError with the names of the layers where there is none."""
    point = adapter.point(layer)
    try:
        find_module(adapter.module, point.path)
    except HookError as error:
        names = ", ".join(point.name for point in adapter.card.points)
        raise InputError(
            f"{adapter.card.name} has no layer {layer!r}; layers are {names}, or a module path ({error})"
        ) from error
    return point
