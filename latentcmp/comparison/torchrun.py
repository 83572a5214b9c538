"""The ranks of a torchrun job: the shard of this process, and the statistics of all ranks merged."""

import os
from collections.abc import Iterable, Iterator
from functools import partial

from latentcmp._runtime.distributed import (
    rank_and_size,
    receive_message,
    send_message,
    transport_device,
    tree_neighbours,
    wait_for_all_ranks,
)
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.accumulate import ComparisonAccumulator
from latentcmp.comparison.shards import Packed, Shard, merged, pack, unpack


def this_shard() -> Shard | None:
    """The shard of this rank, from the environment that torchrun sets; None for a process that runs alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Shard(int(os.environ["RANK"]) + 1, world) if world > 1 else None


def merge_on_rank_0(accumulator: ComparisonAccumulator | None, manifest: Metadata) -> ComparisonAccumulator | None:
    """Merge the accumulators of all ranks on rank 0, on the CPU; the other ranks return None.

    Ranks merge in a binary tree, each a range of consecutive blocks, and send one node of their merge trees after the
    other: a rank holds its own nodes and one that it receives. Nodes merge with their siblings only, so the result has
    the bits of a single process.

    Args:
        accumulator: that of this rank, which is emptied; None where it had no block.
        manifest: that of the plan.
    """
    senders, parent = tree_neighbours(*rank_and_size("world"))
    whole = accumulator
    if transport_device().type != "cpu":
        whole = _merged_pieces(None, _pieces(accumulator), manifest)
    for sender in senders:
        whole = _merged_pieces(whole, iter(partial(receive_message, sender), None), manifest)
    if parent is not None:
        for piece in _pieces(whole):
            send_message(piece, parent)
        send_message(None, parent)
    wait_for_all_ranks()
    return whole if parent is None else None


def _merged_pieces(
    whole: ComparisonAccumulator | None, pieces: Iterable[Packed], manifest: Metadata
) -> ComparisonAccumulator | None:
    """Merge packed pieces into `whole`."""
    for tensors, metadata in pieces:
        whole = merged(whole, unpack(tensors, metadata | {"manifest": manifest}))
    return whole


def _pieces(accumulator: ComparisonAccumulator | None) -> Iterator[Packed]:
    """The samples of an accumulator, then each of its nodes, as packed accumulators; its trees are emptied."""
    if accumulator is None:
        return
    trees = {name: getattr(accumulator, name).tree for name in ("atoms", "structures")}
    nodes = [(name, place, tree.nodes.pop(place)) for name, tree in trees.items() for place in sorted(tree.nodes)]
    yield pack({}, accumulator)
    while nodes:
        name, place, node = nodes.pop()
        piece = ComparisonAccumulator(accumulator.manifest, accumulator.layers, accumulator.folds)
        getattr(piece, name).tree.nodes[place] = node
        yield pack({}, piece)
