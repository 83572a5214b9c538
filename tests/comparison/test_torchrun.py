"""Statistics of several real processes (gloo), merged in a tree: the bits of one process, and little memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentcmp._runtime.distributed import tree_neighbours
from latentcmp.comparison.shards import Shard, write_shard
from latentcmp.statistics.storage import read_statistics

from .merge_rank import CASES, accumulated, manifest_of

SCRIPT = Path(__file__).with_name("merge_rank.py")
WORLD = 7


@pytest.fixture(scope="module")
def folder(run_ranks: Callable[[Path, int], Path]) -> Path:
    """What seven ranks wrote."""
    return run_ranks(SCRIPT, WORLD)


def memory(folder: Path, case: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{case}-{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize("case", CASES)
def test_rank_0_has_the_bits_of_one_process(folder: Path, tmp_path: Path, case: str) -> None:
    n_blocks = CASES[case][0]
    path = write_shard(tmp_path, Shard(1, 1), manifest_of(case), accumulated(case, range(n_blocks)))
    (tensors, metadata), (expected, wanted) = (
        read_statistics(Shard(1, 1).path(of), "a shard of a comparison") for of in (folder / case, path.parent)
    )
    assert metadata == wanted
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    assert [of_rank["is_none"] for of_rank in memory(folder, case)] == [n_blocks == 0] + [True] * (WORLD - 1)


def test_the_memory_of_rank_0_does_not_grow_with_the_number_of_ranks(folder: Path) -> None:
    """A rank has two nodes here. Rank 0 merges those of three ranks and rank 2 those of one, node by node.

    The others' nodes on rank 0 at once would be 12, and as many again as they are unpacked.
    """
    node = 3 * (2 * 500 + 3) ** 2 * 8
    ranks = memory(folder, "wide")
    assert node < ranks[0]["largest"] < 1.2 * node
    assert ranks[0]["after"] - ranks[0]["before"] < 16 * node
    assert ranks[0]["after"] - ranks[2]["after"] < 10 * node  # 2 to 6, as the allocator reuses pages or does not


@pytest.mark.parametrize("world", [1, 2, 3, 5, 8, 11, 16])
def test_the_tree_merges_consecutive_ranks(world: int) -> None:
    held = {rank: [rank] for rank in range(world)}
    for rank in reversed(range(world)):
        senders, parent = tree_neighbours(rank, world)
        assert len(senders) <= world.bit_length()
        assert all(tree_neighbours(sender, world)[1] == rank for sender in senders)
        assert (parent is None) == (rank == 0)
        held[rank] = sum((held.pop(sender) for sender in senders), held[rank])
    assert held == {0: list(range(world))}
