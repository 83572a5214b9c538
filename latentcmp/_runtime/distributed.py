"""Everything that latentcmp asks of torch.distributed.

A `Group` names the processes that work together: None is this process alone, "world" all processes of the job, and a
`torch.distributed.ProcessGroup` its members.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError

if TYPE_CHECKING:
    ProcessGroup: TypeAlias = dist.ProcessGroup | None
    Group: TypeAlias = dist.ProcessGroup | Literal["world"] | None
else:  # not every build of torch has process groups
    ProcessGroup = getattr(dist, "ProcessGroup", object) | None
    Group = getattr(dist, "ProcessGroup", object) | Literal["world"] | None
State = list[Tensor]
Message = tuple[dict[str, Tensor], Metadata]
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


def tree_neighbours(rank: int, world: int) -> tuple[list[int], int | None]:
    """The neighbours of a rank in a binary tree of all ranks with rank 0 as the root.

    Rank r merges rank r + 1, then r + 2, r + 4, ...: at every step it holds a range of consecutive ranks.

    Args:
        rank: a rank.
        world: number of ranks.

    Returns:
        The ranks that it receives from, in this order, and the rank that it then sends to (None for rank 0).
    """
    step, senders = 1, []
    while step < world and rank % (2 * step) == 0:
        if rank + step < world:
            senders.append(rank + step)
        step *= 2
    return senders, rank - step if rank else None


def merged_by_tree(state: State, merge: Callable[[State], State], device: torch.device, group: ProcessGroup) -> State:
    """Merge the states of all ranks in the order of `tree_neighbours`, so that every rank holds the same bits.

    Rank 0 broadcasts the result. Tensors are sent on the CPU by gloo and on the device by NCCL.

    Args:
        state: tensors whose shapes and dtypes are the same on all ranks.
        merge: merges a received state into this rank's own and returns the result.
        device: device of the state.
        group: process group of the ranks.
    """
    carrier = _carrier(device, group)
    senders, parent = tree_neighbours(dist.get_rank(group), dist.get_world_size(group))
    for sender in senders:
        received = [torch.empty_like(tensor, device=carrier) for tensor in state]
        for tensor in received:
            dist.recv(tensor, _global_rank(sender, group), group)
        state = merge(received)
    sent = [tensor.to(carrier).contiguous() for tensor in state]
    if parent is not None:
        for tensor in sent:
            dist.send(tensor, _global_rank(parent, group), group)
    for tensor in sent:
        dist.broadcast(tensor, _global_rank(0, group), group)
    return sent


def send_message(message: Message | None, rank: int) -> None:
    """Send a message to a rank of the job: a header in JSON, then one tensor after the other.

    Args:
        message: tensors of any dtype by name, and metadata that JSON holds; or None, for no more messages.
        rank: the rank that calls `receive_message`.
    """
    tensors, metadata = message or ({}, None)
    described = {name: (str(tensor.dtype).removeprefix("torch."), tensor.shape) for name, tensor in tensors.items()}
    header = torch.tensor(list(json.dumps([metadata, described]).encode()), dtype=torch.uint8)
    for tensor in (torch.tensor(len(header)), header, *tensors.values()):
        if tensor.numel():
            dist.send(_bytes(tensor.to(transport_device()).contiguous()), rank)


def receive_message(rank: int) -> Message | None:
    """Receive what a rank of the job sends by `send_message`, on the CPU."""
    length = int(_received((), torch.int64, rank))
    metadata, described = json.loads(bytes(_received((length,), torch.uint8, rank).tolist()))
    tensors = {name: _received(shape, getattr(torch, dtype), rank) for name, (dtype, shape) in described.items()}
    return None if metadata is None else (tensors, metadata)


def transport_device() -> torch.device:
    """The device that tensors are sent from in the job: that of this rank for NCCL, else the CPU."""
    return _carrier(torch.device("cpu"), None)


def wait_for_all_ranks() -> None:
    """Return when all ranks of the job have called this."""
    all_sum(torch.zeros(1, device=transport_device()), "world").cpu()  # a barrier of NCCL would choose the device


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


def _bytes(tensor: Tensor) -> Tensor:
    """The bytes of a contiguous tensor, which every backend sends, whatever the dtype."""
    return tensor.view(-1).view(torch.uint8)


def _received(shape: Sequence[int], dtype: torch.dtype, rank: int) -> Tensor:
    tensor = torch.empty(tuple(shape), dtype=dtype, device=transport_device())
    if tensor.numel():
        dist.recv(_bytes(tensor), rank)
    return tensor.cpu()


def _current(device: torch.device) -> AbstractContextManager:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _global_rank(rank: int, group: ProcessGroup) -> int:
    return rank if group is None else dist.get_global_rank(group, rank)
