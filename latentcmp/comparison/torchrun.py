"""The ranks of a torchrun job: who this process is, and what all of them have gathered."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from latentcmp.comparison.accumulate import ComparisonAccumulator
from latentcmp.comparison.shards import Packed, Shard, merged, pack, unpack


def this_shard() -> Shard | None:
    """The part of this rank, as torchrun says in the environment; None for a process that runs alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Shard(int(os.environ["RANK"]) + 1, world) if world > 1 else None


def rank_device(device: str | None) -> str | None:
    """The device of this rank: on a machine with several GPUs each rank of it has its own."""
    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if wanted == "cuda" and this_shard() else device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """The process group of all ranks, NCCL for GPUs and gloo else; when one is lost, the others end by a time-out."""
    minutes = float(os.environ.get("LATENTCMP_TIMEOUT_MINUTES", "60"))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=minutes))
    try:
        yield
    finally:
        dist.destroy_process_group()


def gathered_on_rank_0(collected: ComparisonAccumulator | None, manifest: dict) -> ComparisonAccumulator | None:
    """On rank 0 what all ranks have gathered, None on the others."""
    found: list[Packed] | None = [({}, {})] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(pack(manifest, collected), found)
    whole = None
    for packed in found or []:
        whole = merged(whole, unpack(*packed))
    return whole
