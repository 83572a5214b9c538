"""The ranks of a torchrun job: who this process is, and what all of them have gathered."""

import os
from typing import Any

from latentcmp._runtime.distributed import gather_to_first
from latentcmp.comparison.accumulate import ComparisonAccumulator
from latentcmp.comparison.shards import Shard, merged, pack, unpack


def this_shard() -> Shard | None:
    """The part of this rank, as torchrun says in the environment; None for a process that runs alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Shard(int(os.environ["RANK"]) + 1, world) if world > 1 else None


def gathered_on_rank_0(
    collected: ComparisonAccumulator | None, manifest: dict[str, Any]
) -> ComparisonAccumulator | None:
    """On rank 0 what all ranks have gathered, None on the others."""
    whole = None
    for packed in gather_to_first(pack(manifest, collected)) or []:
        whole = merged(whole, unpack(*packed))
    return whole
