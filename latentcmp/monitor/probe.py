"""The probe: fixed batches that are run through a model, and the activations they give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from latentcmp._runtime.settings import single_precision
from latentcmp.errors import HookError, InputError
from latentcmp.hooks.points import HookPoint, as_point, find_module
from latentcmp.hooks.tap import Tap
from latentcmp.models.batching import BATCH_ATOMS, batches
from latentcmp.models.card import Adapter
from latentcmp.models.forward import existing_point
from latentcmp.monitor.guard import undisturbed
from latentcmp.monitor.ranks import Ranks
from latentcmp.systems.read import read_systems
from latentcmp.systems.screen import screen
from latentcmp.systems.system import System

Model: TypeAlias = nn.Module | Adapter


@dataclass(frozen=True)
class Share:
    """The forwards of a probe that one rank runs, one for each batch.

    With fewer batches than ranks some ranks have none: they run the first batch, so that their hooks fire as on the
    others, but its rows are not `counted`.
    """

    forwards: list[Callable[[], Any]]
    counted: bool = True

    @classmethod
    def of(cls, ranks: Ranks, batches: Sequence[Any], forward: Callable[[Any], Callable[[], Any]]) -> "Share":
        """Return the share of this rank; `forward` turns a batch into a function that runs it."""
        own = ranks.own(batches)
        return cls([forward(batch) for batch in own or batches[:1]], bool(own))


def module_of(model: Model) -> nn.Module:
    """Return the eager module inside an adapter, a compiled module or a DistributedDataParallel module."""
    module: Any = model.module if isinstance(model, Adapter) else model
    if not isinstance(module, nn.Module):
        raise InputError(f"model must be a torch.nn.Module or an Adapter, got {type(module).__name__}")
    while type(module).__name__ == "OptimizedModule" or isinstance(module, nn.parallel.DistributedDataParallel):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module
    return module


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer; the CPU for a module without any."""
    return next((value.device for value in [*module.parameters(), *module.buffers()]), torch.device("cpu"))


def points_of(model: Model, chosen: Sequence[HookPoint | str]) -> dict[str, HookPoint]:
    """Return hook points by name; InputError or HookError for one that is not in the model."""
    if isinstance(model, Adapter):
        found = [existing_point(model, point) if isinstance(point, str) else point for point in chosen]
    else:
        found = [as_point(point) for point in chosen]
    if not found or len({point.name for point in found}) < len(found):
        raise InputError(f"points must be hook points with names of their own, got {chosen}")
    for point in found:
        find_module(module_of(model), point.path)
    return {point.name: point for point in found}


def checked_probe(model: Model, reference: Any, probe: Any) -> Any:
    """Return the probe: structures read and screened for an adapter, batches of a module as given."""
    if not isinstance(model, Adapter):
        if isinstance(reference, Adapter):
            raise InputError("the reference is an Adapter, so the model must be one too: they share structures")
        return probe
    if probe is None:
        raise InputError("give the probe's structures; a few hundred atoms of the kind that is trained on")
    return screen(read_systems(probe), [model.card], "error").systems


def share_of_systems(
    adapter: Adapter, systems: Sequence[System], ranks: Ranks, batch_atoms: int | None = None
) -> Share:
    """Return the share of this rank of a probe of structures, whose graphs are built here, once."""
    atoms = max(1, sum(map(len, systems)) // ranks.size)
    found = list(batches(systems, min(atoms, batch_atoms or BATCH_ATOMS[adapter.device.type])))

    def forward(graphs: list[Any]) -> None:
        with single_precision():
            adapter.energies(graphs)

    with single_precision():
        return Share.of(ranks, found, lambda batch: partial(forward, [adapter.graph(system.atoms) for system in batch]))


def share_of_batches(module: nn.Module, probe: Any, ranks: Ranks) -> Share:
    """Return the share of this rank of the probe of a module.

    A list holds batches, anything else is one batch; a single tensor is divided by rows among several ranks. A batch
    that is a function is called with the module; a tuple holds the arguments of the module, a dict its keyword
    arguments; anything else is its only argument.
    """
    if isinstance(probe, Tensor) and ranks.size > 1:
        probe = list(probe.tensor_split(ranks.size))
    device = device_of(module)
    parts = probe if isinstance(probe, list) else [probe]
    return Share.of(ranks, parts, lambda batch: partial(_call, module, moved(batch, device)))


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch on the device: tensors, containers of them, and objects with a `to` method."""
    if isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields"):
        return type(batch)(moved(item, device) for item in batch)
    if isinstance(batch, dict):
        return {key: moved(item, device) for key, item in batch.items()}
    return batch.to(device) if hasattr(batch, "to") and not isinstance(batch, nn.Module) else batch


def _call(module: nn.Module, batch: Any) -> Any:
    if callable(batch) and not isinstance(batch, Tensor):
        return batch(module)
    if isinstance(batch, tuple):
        return module(*batch)
    return module(**batch) if isinstance(batch, dict) else module(batch)


def activations(
    module: nn.Module, share: Share, points: Mapping[str, HookPoint], gradients: bool = False
) -> tuple[dict[str, list[Tensor]], dict[str, Exception]]:
    """Return copies of the activations of each point, one for each forward, and the errors of points without any.

    Hooks are attached only during the call, which does not change the module otherwise (`undisturbed`).
    """
    found: dict[str, list[Tensor]] = {name: [] for name in points}
    failed: dict[str, Exception] = {}

    def keep(name: str, value: Tensor) -> None:
        found[name].append((value if share.counted else value[:0]).clone())

    with undisturbed(module, gradients), ExitStack() as stack:
        for name, point in points.items():
            stack.enter_context(_noting(name, failed))
            try:
                stack.enter_context(Tap(module, point, keep))
            except HookError as error:
                failed[name] = error
        try:
            for forward in share.forwards:
                forward()
        except Exception as error:  # a model may raise anything
            failed = dict.fromkeys(points, error)
    return {name: values for name, values in found.items() if name not in failed}, failed


@contextmanager
def _noting(name: str, failed: dict[str, Exception]) -> Iterator[None]:
    """Record the error of a hook that never fired under the name of its point."""
    try:
        yield
    except HookError as error:
        failed.setdefault(name, error)
