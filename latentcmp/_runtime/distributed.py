"""Everything that latentcmp asks of torch.distributed.

A `Group` names the processes that work together: None is this process alone, "world" all processes of the job, and a
`torch.distributed.ProcessGroup` its members.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from latentcmp.errors import InputError

if TYPE_CHECKING:
    ProcessGroup: TypeAlias = dist.ProcessGroup | None
    Group: TypeAlias = dist.ProcessGroup | Literal["world"] | None
else:  # not every build of torch has process groups
    ProcessGroup = getattr(dist, "ProcessGroup", object) | None
    Group = getattr(dist, "ProcessGroup", object) | Literal["world"] | None
State = list[Tensor]
Value = TypeVar("Value")


def is_initialised() -> bool:
    """Whether this process has called `torch.distributed.init_process_group`."""
    return dist.is_available() and dist.is_initialized()


def check_group(group: Group) -> None:
    """Raise InputError unless `group` is None, "world" or a process group with this process in it."""
    if group is None or group == "world" or (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        return
    raise InputError(
        f"group must be None, 'world' or a process group of torch.distributed with this process in it, got {group!r}"
    )


def process_group(group: Group) -> ProcessGroup:
    """The process group to communicate in, or None where this process works alone.

    "world" is this process alone where torch.distributed is not initialised.
    """
    if group == "world":
        return dist.group.WORLD if is_initialised() else None
    return group


def initialised_group(group: Group) -> ProcessGroup:
    """The process group to communicate in.

    Raises:
        InputError: `group` is None, torch.distributed is not initialised, or this process is not a member.
    """
    if not is_initialised():
        raise InputError("there is no process group; call torch.distributed.init_process_group on every rank first")
    if group is None:
        raise InputError("group is None, which is this process alone; give 'world' or a process group")
    if group == dist.GroupMember.NON_GROUP_MEMBER:
        raise InputError("this process is no member of the group; call this on its members only")
    check_group(group)
    return process_group(group)


def rank_and_size(group: Group) -> tuple[int, int]:
    """Rank of this process in the group and number of its processes; (0, 1) for this process alone."""
    members = process_group(group)
    return (0, 1) if members is None else (dist.get_rank(members), dist.get_world_size(members))


def all_gather(value: Value, group: Group) -> list[Value]:
    """The picklable values of all processes of the group, in the order of ranks."""
    members = process_group(group)
    if members is None:
        return [value]
    values: list[Any] = [None] * dist.get_world_size(members)
    dist.all_gather_object(values, value, group=members)
    return values


def gather_to_first(value: Value) -> list[Value] | None:
    """The picklable values of all ranks of the job on rank 0, None on the others."""
    values: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, values)
    return values


def all_sum(values: Tensor, group: Group) -> Tensor:
    """Add the values of the other processes of the group to `values`, in place, and return them."""
    members = process_group(group)
    if members is not None:
        dist.all_reduce(values, group=members)
    return values


def mean_over_rows(sums: Tensor, n_rows: int, group: Group) -> Tensor:
    """Sums over the `n_rows` rows of each process, divided by the number of rows of all processes of the group.

    Differentiable: the gradient of a process is the sum of the gradients that all processes request. Where all compute
    the same loss, that is the gradient of this loss times the number of processes, of which DistributedDataParallel
    takes the mean.
    """
    members = process_group(group)
    if members is None:
        return sums / n_rows
    total = _Total.apply(torch.cat([sums.flatten(), sums.new_full((1,), n_rows)]), members)
    return (total[:-1] / total[-1]).view(sums.shape)


class _Total(torch.autograd.Function):
    """Sum over processes; torch.distributed.nn's is deprecated, and the functional one has no derivative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return all_sum(values.clone(), group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Total.apply(gradient, ctx.group), None


def check_same(description: str, device: torch.device, group: ProcessGroup) -> None:
    """Raise the same InputError on every rank of the group unless all give the same description."""
    with _current(_carrier(device, group)):
        descriptions = all_gather(description, group)
    differing = next((rank for rank, other in enumerate(descriptions) if other != descriptions[0]), None)
    if differing is not None:
        raise InputError(
            f"all ranks must hold the same statistics, but rank 0 of the group has {descriptions[0]} and rank "
            f"{differing} has {descriptions[differing]}; make them with the same arguments on every rank"
        )


def merged_by_tree(state: State, merge: Callable[[State], State], device: torch.device, group: ProcessGroup) -> State:
    """Merge the states of all ranks in a fixed order, so that every rank holds the same bits.

    Rank r merges rank r + 1, then r + 2, r + 4, ...; rank 0 broadcasts the result. Tensors are sent on the CPU by gloo
    and on the device by NCCL.

    Args:
        state: tensors whose shapes and dtypes are the same on all ranks.
        merge: merges a received state into this rank's own and returns the result.
        device: device of the state.
        group: process group of the ranks.
    """
    carrier, rank, world = _carrier(device, group), dist.get_rank(group), dist.get_world_size(group)
    step = 1
    while step < world and rank % (2 * step) == 0:
        if rank + step < world:
            received = [torch.empty_like(tensor, device=carrier) for tensor in state]
            for tensor in received:
                dist.recv(tensor, _global_rank(rank + step, group), group)
            state = merge(received)
        step *= 2
    sent = [tensor.to(carrier).contiguous() for tensor in state]
    if rank:
        for tensor in sent:
            dist.send(tensor, _global_rank(rank - step, group), group)
    for tensor in sent:
        dist.broadcast(tensor, _global_rank(0, group), group)
    return sent


def rank_device(device: str | None) -> str | None:
    """The device of this rank of a torchrun job: with several GPUs on a machine each of its ranks has its own."""
    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    is_rank = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if wanted == "cuda" and is_rank else device


@contextmanager
def job_process_group(device: torch.device) -> Iterator[None]:
    """Initialise torch.distributed for a torchrun job: NCCL for GPUs, gloo otherwise.

    When a rank is lost, the others end after LATENTCMP_TIMEOUT_MINUTES (default 60).
    """
    minutes = float(os.environ.get("LATENTCMP_TIMEOUT_MINUTES", "60"))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=minutes))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _carrier(device: torch.device, group: ProcessGroup) -> torch.device:
    """Device that tensors are sent from: chosen by the group alone, so that all ranks agree."""
    backend = dist.get_backend(group)
    if "nccl" not in backend or "gloo" in backend:
        return torch.device("cpu")
    return device if device.type == "cuda" else torch.device("cuda", torch.cuda.current_device())


def _current(device: torch.device) -> AbstractContextManager:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _global_rank(rank: int, group: ProcessGroup) -> int:
    return rank if group is None else dist.get_global_rank(group, rank)
