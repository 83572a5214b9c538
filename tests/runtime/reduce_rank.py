"""One rank of the processes that `test_reduce.py` starts: RANK WORLD FOLDER. Writes what it got into the folder."""

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from latentcmp._runtime.distributed import receive_message, send_message
from latentcmp.errors import InputError
from latentcmp.statistics.joint import JointStatistics

WIDTHS = {"a": 6, "b": 9}
N_ROWS = 240
GROUPS = {"one": [1], "two": [1, 2], "all": [0, 1, 2]}


TENSORS = {
    "transposed": torch.arange(6, dtype=torch.float64).view(2, 3).T,
    "half": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
    "flag": torch.tensor(True),
    "empty": torch.empty(0, 3, dtype=torch.int64),
}
"""Of a message from rank 2 to rank 0."""


def of_share(share: int, shares: int, method: str) -> JointStatistics:
    """The statistics of every `shares`-th row from `share` on, the rows of share 0 far from the others."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(N_ROWS, 5))
    rows = {name: np.tanh(latent @ rng.normal(size=(5, width))) for name, width in WIDTHS.items()}
    part = rng.integers(3, size=N_ROWS)
    mine = np.arange(N_ROWS) % shares == share
    statistics = JointStatistics(WIDTHS, method)  # type: ignore[arg-type]
    chosen = {name: torch.from_numpy(values[mine] + 2) for name, values in rows.items()}
    statistics.update(chosen, torch.from_numpy(part[mine]))
    return statistics


def reduce_shares(folder: Path, rank: int, groups: dict[str, dist.ProcessGroup]) -> None:
    """Every method in every group; ranks outside a group must be told so."""
    for name, group in groups.items():
        for method in ("qr", "gram"):
            members = GROUPS[name]
            statistics = of_share(members.index(rank) if rank in members else 0, len(members), method)
            try:
                statistics.all_reduce("world" if name == "all" else group)
                statistics.save(folder / f"{name}-{method}-{rank}")
            except InputError as error:
                (folder / f"{name}-{method}-{rank}").write_text(str(error))


def reduce_odd_ones(folder: Path, rank: int) -> None:
    """A rank without rows, ranks without rows, another width, another method, other parts."""
    empty = JointStatistics(WIDTHS)
    statistics = empty if rank == 0 else of_share(rank - 1, 2, "qr")
    statistics.all_reduce()
    statistics.save(folder / f"empty-qr-{rank}")
    empty.reset()
    empty.all_reduce()
    empty.save(folder / f"nothing-qr-{rank}")
    other = {"widths": JointStatistics({"a": 6, "b": 9 + (rank == 2)}), "method": of_share(0, 3, "qr")}
    other["parts"] = JointStatistics(WIDTHS, n_parts=5 if rank == 1 else 3)
    if rank == 1:
        other["method"] = of_share(0, 3, "gram")
    for name, odd in other.items():
        before = odd.compute().parts
        try:
            odd.all_reduce()
        except InputError as error:
            (folder / f"{name}-qr-{rank}").write_text(f"{torch.equal(odd.compute().parts, before)} {error}")


def exchange_messages(folder: Path, rank: int) -> None:
    """A message with tensors, one without, and the end."""
    if rank == 2:
        for message in ((TENSORS, {"names": {"1": "é"}}), ({}, {}), None):
            send_message(message, 0)
    if rank == 0:
        torch.save([receive_message(2) for _ in range(3)], folder / "messages")


def main(rank: int, world: int, folder: Path) -> None:
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=timedelta(seconds=60))
    groups = {name: dist.new_group(members) for name, members in GROUPS.items()}
    reduce_shares(folder, rank, groups)
    reduce_odd_ones(folder, rank)
    exchange_messages(folder, rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
