"""How work is laid out where it is done: an item for every core of a CPU, one batch on any other device."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from latentcmp._runtime.settings import one_torch_thread
from latentcmp.errors import InputError

DEVICES = ("cpu", "cuda")
Item = TypeVar("Item")
Result = TypeVar("Result")


def without_waiting(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; the host does not wait for what the device has left to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def map_over_cores(function: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """Map in order; on a CPU one item a core, each with one torch thread, elsewhere one after the other.

    Batched LAPACK in torch runs one problem at a time, so threads inside an operation do not help it.
    """
    if device.type != "cpu":
        return [function(item) for item in items]
    workers = max(1, min(torch.get_num_threads(), len(items)))
    with one_torch_thread(), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, items))


def batches_for(items: Sequence[Item], device: torch.device) -> list[Sequence[Item]]:
    """Items that one worker takes together: one on a CPU, where cores work side by side, all of them elsewhere."""
    return [[item] for item in items] if device.type == "cpu" else [items]


def map_stacked(function: Callable[[Tensor], Sequence[Tensor]], matrices: Sequence[Tensor]) -> list[list[Tensor]]:
    """What a function of stacks [b, m, n] gives for every matrix, with one call for all matrices of a shape."""
    by_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(index)
    found: dict[int, list[Tensor]] = {}
    for members in by_shape.values():
        results = function(torch.stack([matrices[index] for index in members]))
        found |= {index: list(parts) for index, *parts in zip(members, *results, strict=True)}
    return [found[index] for index in range(len(matrices))]


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else CUDA where there is one, else the CPU. Raises InputError for one that is absent."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; give cpu, cuda or cuda:N") from error
    if chosen.type not in DEVICES:
        raise InputError(f"device {str(device)!r} is not supported; give cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r} was asked for, but torch sees no CUDA device here; use cpu")
    return chosen
