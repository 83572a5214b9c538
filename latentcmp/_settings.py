"""Process-wide settings of torch held for a while, work spread over cores, and how it reaches a device."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Hold torch at one thread an operation, and give its own count back.

    Message passing on a few dozen atoms and LAPACK on small matrices both run slower on more, and on a busy
    machine very much slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_precision() -> Iterator[None]:
    """Hold torch's default dtype at float32, which model packages take for granted, and give it back."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


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
