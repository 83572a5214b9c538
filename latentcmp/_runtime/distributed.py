"""One state from the states of all ranks of a torch.distributed group, merged in an order that is fixed."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from latentcmp.errors import InputError

Group: TypeAlias = "dist.ProcessGroup | None"  # a string: some builds of torch have no process groups
State = list[Tensor]


def check_same(description: str, device: torch.device, group: Group) -> None:
    """Raise the same InputError on every rank unless all give the same description."""
    _check_group(group)
    found: list[str] = [""] * dist.get_world_size(group)
    with _current(_carrier(device, group)):
        dist.all_gather_object(found, description, group)
    differing = next((rank for rank, other in enumerate(found) if other != found[0]), None)
    if differing is not None:
        raise InputError(
            f"all ranks must hold the same statistics, but rank 0 of the group has {found[0]} and rank {differing} has "
            f"{found[differing]}; make them with the same arguments on every rank"
        )


def merged_by_tree(state: State, merge: Callable[[State], State], device: torch.device, group: Group) -> State:
    """The same bits on every rank: rank r takes in r + 1, then r + 2, r + 4, ..., and rank 0 sends the whole to all.

    `merge` adds a received state to this rank's own and returns the sum; shapes and dtypes agree on all ranks. Tensors
    travel on the CPU by gloo, on the device by NCCL.
    """
    carrier, rank, world = _carrier(device, group), dist.get_rank(group), dist.get_world_size(group)
    step = 1
    while step < world and rank % (2 * step) == 0:
        if rank + step < world:
            received = [torch.empty_like(tensor, device=carrier) for tensor in state]
            for tensor in received:
                dist.recv(tensor, _global(rank + step, group), group)
            state = merge(received)
        step *= 2
    travelling = [tensor.to(carrier).contiguous() for tensor in state]
    if rank:
        for tensor in travelling:
            dist.send(tensor, _global(rank - step, group), group)
    for tensor in travelling:
        dist.broadcast(tensor, _global(0, group), group)
    return travelling


def _check_group(group: Group) -> None:
    if not (dist.is_available() and dist.is_initialized()):
        raise InputError("there is no process group; call torch.distributed.init_process_group on every rank first")
    if dist.get_rank(group) < 0:
        raise InputError("this process is no member of the group; call all_reduce on its members only")


def _carrier(device: torch.device, group: Group) -> torch.device:
    """Where tensors travel: chosen from the group alone, so that all ranks agree, whatever device they compute on."""
    backend = dist.get_backend(group)
    if "nccl" not in backend or "gloo" in backend:
        return torch.device("cpu")
    return device if device.type == "cuda" else torch.device("cuda", torch.cuda.current_device())


def _current(device: torch.device) -> AbstractContextManager:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _global(rank: int, group: Group) -> int:
    return rank if group is None else dist.get_global_rank(group, rank)
