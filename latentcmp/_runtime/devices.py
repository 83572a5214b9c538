"""Choice of a device, and parallel work: one item per core on a CPU, one batch on other devices."""

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


def copy_without_sync(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device without host synchronisation."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def map_over_cores(function: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """Apply a function to items: on a CPU in parallel, one torch thread each, on other devices one after the other.

    Batched LAPACK in torch runs one problem at a time, so that threads inside an operation do not speed it up.

    Args:
        function: the function.
        items: its arguments.
        device: the device of the tensors that it works on.

    Returns:
        The results, in the order of the items.
    """
    if device.type != "cpu":
        return [function(item) for item in items]
    workers = max(1, min(torch.get_num_threads(), len(items)))
    with one_torch_thread(), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, items))


def batches_for(items: Sequence[Item], device: torch.device) -> list[Sequence[Item]]:
    """Divide items into those that one worker takes together: single items on a CPU, all items on other devices."""
    return [[item] for item in items] if device.type == "cpu" else [items]


def map_stacked(function: Callable[[Tensor], Sequence[Tensor]], matrices: Sequence[Tensor]) -> list[list[Tensor]]:
    """Apply a function of stacks of matrices, with one call for all matrices of a shape.

    Args:
        function: from a stack [b, m, n] to tensors with the batch dimension b first.
        matrices: matrices of any shapes.

    Returns:
        The tensors of each matrix, without the batch dimension.
    """
    by_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(index)
    results: dict[int, list[Tensor]] = {}
    for members in by_shape.values():
        stacks = function(torch.stack([matrices[index] for index in members]))
        results |= {index: list(tensors) for index, *tensors in zip(members, *stacks, strict=True)}
    return [results[index] for index in range(len(matrices))]


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return a device.

    Args:
        device: "cpu", "cuda" or "cuda:N"; None: CUDA where it is available, else the CPU.

    Raises:
        InputError: the device is unknown, not supported or not available.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; give cpu, cuda or cuda:N") from error
    if chosen.type not in DEVICES:
        raise InputError(f"device {str(device)!r} is not supported; give cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r} was asked for, but torch sees no CUDA device here; use cpu")
    return chosen
