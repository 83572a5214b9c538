"""One rank of the processes that `test_torchrun.py` starts: RANK WORLD FOLDER. Writes what it got into the folder."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from latentcmp._runtime.types import Metadata
from latentcmp.comparison import torchrun
from latentcmp.comparison.accumulate import ComparisonAccumulator
from latentcmp.comparison.noise import StructureNoise
from latentcmp.comparison.shards import Shard, unpack, write_shard
from latentcmp.measures.baseline_rows import RANDOM_SEEDS, random_columns
from latentcmp.statistics.accumulator import RowLabels
from latentcmp.statistics.row_keys import row_keys
from latentcmp.systems.folds import parts_of
from latentcmp.systems.group_folds import GroupFolds

CASES = {"wide": (7, 500), "many": (37, 30), "moved": (37, 30), "folds": (37, 4), "few": (3, 5), "none": (0, 5)}
"""Number of blocks and columns of a matrix. In the case "moved" ranks move their own statistics first, as with NCCL.

In the case "folds" rows are in folds of groups, with descriptors, features of random weights and noise; in the others
there is one split.
"""
FOLDS = GroupFolds.of(37)


def manifest_of(case: str) -> Metadata:
    n_blocks, _ = CASES[case]
    config = {"local_train_rows": 40, "local_test_rows": 20}
    manifest: Metadata = {"config": config, "models": {"a": {}, "b": {}}, "statistics": "gram", "described": {}}
    if case == "folds":
        manifest |= {"folds": list(FOLDS.fold_of_block), "described": {"atoms": {"d": 2}, "structures": {"d": 2}}}
    random = ["b"] if case == "folds" else []
    return manifest | {"random_weights": random, "order": 1, "n_blocks": n_blocks}


def accumulated(case: str, blocks: range) -> ComparisonAccumulator | None:
    """Statistics of some blocks of 12 rows; those of wide matrices are Gram matrices from the beginning."""
    width = CASES[case][1]
    folds = dict.fromkeys(("atoms", "structures"), FOLDS) if case == "folds" else {}
    accumulator = ComparisonAccumulator(manifest_of(case), {name: {"width": width} for name in "ab"}, folds)
    for block in blocks:
        rng = np.random.default_rng(block)
        part, rows = parts_of(np.arange(12) % 4 == 0), np.arange(12 * block, 12 * block + 12)
        if case == "folds":
            part = np.repeat([block % FOLDS.n_blocks, (block + 7) % FOLDS.n_blocks], 6)
        labels = RowLabels(part, row_keys([f"block {block}"], [12]), rows, rows, rows // 6, rows % 3 + 1)
        features = {name: torch.from_numpy(rng.normal(size=(12, width))).float() for name in "ab"}
        random = {random_columns("b", seed): width for seed in range(RANDOM_SEEDS)}
        columns = {"d": 2, **random} if case == "folds" else {}
        described = {name: torch.from_numpy(rng.normal(size=(12, n))) for name, n in columns.items()}
        for kind in (accumulator.atoms, accumulator.structures):
            kind.update(block, features, labels, described)
            if case == "wide":
                for node in kind.tree.nodes.values():
                    node.joint().compact()
        accumulator.noise.update({"a": {f"row {12 * block}": StructureNoise(0.1, float(block), 12)}})
        accumulator.names |= {number: f"row {number}" for number in rows.tolist()}
    return accumulator if blocks else None


def peak() -> int:
    """The largest resident set size of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main(rank: int, world: int, folder: Path) -> None:
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=timedelta(seconds=200))
    largest = [0]

    def measured(tensors: dict[str, torch.Tensor], metadata: Metadata) -> ComparisonAccumulator | None:
        largest.append(sum(tensor.nbytes for tensor in tensors.values()))
        return unpack(tensors, metadata)

    torchrun.unpack = measured  # type: ignore[assignment]
    for case, (n_blocks, _) in CASES.items():
        accumulator = accumulated(case, Shard(rank + 1, world).blocks(n_blocks))
        memory = {"before": peak()}
        dist.barrier()
        torchrun.transport_device = lambda case=case: torch.device("cuda" if case == "moved" else "cpu")
        whole = torchrun.merge_on_rank_0(accumulator, manifest_of(case))
        memory |= {"after": peak(), "largest": max(largest)}
        (folder / f"{case}-{rank}.json").write_text(json.dumps(memory | {"is_none": whole is None}))
        if rank == 0:
            write_shard(folder / case, Shard(1, 1), manifest_of(case), whole)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
