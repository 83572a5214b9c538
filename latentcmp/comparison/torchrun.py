"""The ranks of a torchrun job: the shard of this process, and the statistics of all ranks merged."""

import os

from latentcmp._runtime.distributed import gather_to_first
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.accumulate import ComparisonAccumulator
from latentcmp.comparison.shards import Shard, merged, pack, unpack


def this_shard() -> Shard | None:
    """The shard of this rank, from the environment that torchrun sets; None for a process that runs alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Shard(int(os.environ["RANK"]) + 1, world) if world > 1 else None


def merge_on_rank_0(accumulator: ComparisonAccumulator | None, manifest: Metadata) -> ComparisonAccumulator | None:
    """Merge the accumulators of all ranks on rank 0; the other ranks return None.

    Rank 0 receives them pickled and holds those of all ranks at once, until they are merged.
    """
    whole = None
    for packed in gather_to_first(pack(manifest, accumulator)) or []:
        whole = merged(whole, unpack(*packed))
    return whole
