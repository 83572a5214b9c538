"""The probe: the same few batches run through a model again and again, and whose rows they give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from latentcmp._settings import single_precision
from latentcmp.errors import HookError, InputError
from latentcmp.hooks.points import HookPoint, as_point, find_module
from latentcmp.hooks.tap import Tap
from latentcmp.models.card import Adapter
from latentcmp.monitor.guard import undisturbed
from latentcmp.monitor.ranks import Ranks
from latentcmp.running import BATCH_ATOMS, batches, existing_point
from latentcmp.systems.read import read_systems
from latentcmp.systems.screen import screen
from latentcmp.systems.system import System

Model: TypeAlias = nn.Module | Adapter
Forward: TypeAlias = Callable[[], Any]


def module_of(model: Model) -> nn.Module:
    """The eager module of an adapter, of a compiled module or of a DistributedDataParallel one."""
    module: Any = model.module if isinstance(model, Adapter) else model
    if not isinstance(module, nn.Module):
        raise InputError(f"model must be a torch.nn.Module or an Adapter, got {type(module).__name__}")
    while type(module).__name__ == "OptimizedModule" or isinstance(module, nn.parallel.DistributedDataParallel):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module
    return module


def device_of(module: nn.Module) -> torch.device:
    """Where the first parameter or buffer lies; the CPU for a module without any."""
    return next((value.device for value in [*module.parameters(), *module.buffers()]), torch.device("cpu"))


def points_of(model: Model, chosen: Sequence[HookPoint | str]) -> dict[str, HookPoint]:
    """Hook points by name, each one checked to be in the model."""
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
    """Structures read and screened for adapters, batches of a module as they are."""
    if not isinstance(model, Adapter):
        if isinstance(reference, Adapter):
            raise InputError("the reference is an Adapter, so the model must be one too: they share structures")
        return probe
    if probe is None:
        raise InputError("give the probe's structures; a few hundred atoms of the kind that is trained on")
    return screen(read_systems(probe), [model.card], "error").systems


def forwards_of_systems(
    adapter: Adapter, systems: Sequence[System], ranks: Ranks, batch_atoms: int | None = None
) -> list[Forward]:
    """One forward for each of this rank's batches of structures; their graphs are built here, once."""
    share = max(1, sum(map(len, systems)) // ranks.size)
    own = ranks.own(list(batches(systems, min(share, batch_atoms or BATCH_ATOMS[adapter.device.type]))))
    with single_precision():
        graphs = [[adapter.graph(system.atoms) for system in batch] for batch in own]

    def forward(batch: list[Any]) -> None:
        with single_precision():
            adapter.energies(batch)

    return [partial(forward, batch) for batch in graphs]


def forwards_of_batches(module: nn.Module, probe: Any, ranks: Ranks) -> list[Forward]:
    """One forward for each of this rank's batches.

    A list holds batches, all else is one; a lone tensor is cut by rows where several ranks share it. Of a batch, a
    function is called with the module, a tuple holds the module's arguments, a dict its keyword arguments, and all
    else is its one argument. Raises InputError for fewer batches than ranks.
    """
    if isinstance(probe, Tensor) and ranks.size > 1:
        probe = list(probe.tensor_split(ranks.size))
    parts = probe if isinstance(probe, list) else [probe]
    if len(parts) < ranks.size:
        raise InputError(
            f"{ranks.size} processes share the probe, which holds {len(parts)} batches; give a list of at least as "
            "many batches as processes, or a tensor, which is cut by rows"
        )
    device = device_of(module)
    return [partial(_call, module, moved(batch, device)) for batch in ranks.own(parts)]


def moved(batch: Any, device: torch.device) -> Any:
    """A batch on the device: tensors, containers of them, and objects with a `to` of their own."""
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
    module: nn.Module, forwards: Sequence[Forward], points: Mapping[str, HookPoint], gradients: bool = False
) -> tuple[dict[str, list[Tensor]], dict[str, Exception]]:
    """Activations of each point, one a forward, as copies on the device; and why a point has none.

    Hooks hang in the module only while this runs, which leaves no other trace (`undisturbed`).
    """
    found: dict[str, list[Tensor]] = {name: [] for name in points}
    failed: dict[str, Exception] = {}
    with undisturbed(module, gradients), ExitStack() as stack:
        for name, point in points.items():
            stack.enter_context(_noting(name, failed))
            try:
                stack.enter_context(Tap(module, point, lambda _, value, name=name: found[name].append(value.clone())))  # type: ignore[misc]
            except HookError as error:
                failed[name] = error
        try:
            for forward in forwards:
                forward()
        except Exception as error:  # a model raises whatever it raises
            failed = dict.fromkeys(points, error)
    return {name: values for name, values in found.items() if name not in failed}, failed


@contextmanager
def _noting(name: str, failed: dict[str, Exception]) -> Iterator[None]:
    """A hook that never fired is the failure of its own point alone."""
    try:
        yield
    except HookError as error:
        failed.setdefault(name, error)
