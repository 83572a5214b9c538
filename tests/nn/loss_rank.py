"""One rank of a training with a running map: `loss_rank.py RANK WORLD FOLDER` writes what it found."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from latentcmp.nn import ReconstructionLoss

N, D, T = 40, 6, 5
SHARES = [slice(0, 25), slice(25, 40)]
CASES: dict[str, dict[str, Any]] = {
    "shared": {"group": "world"},
    "map held": {"group": "world", "detach": "map"},
    "alone": {"group": None},
}


def rows(n: int = N, width: int = D, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Correlated columns with a mean."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return (torch.randn(n, width, generator=generator, dtype=torch.float64) @ mixing + 3).to(dtype)


def related(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A source [n, D] and a target [n, T] that depends on it in a curve."""
    x = rows(n, D, seed)
    return x, torch.tanh(x[:, :T] / 4) + 0.1 * rows(n, T, seed + 1)


def train(
    options: dict[str, Any], rows: slice, wrap: type[nn.Module] = nn.Sequential, compiled: bool = False
) -> dict[str, Any]:
    """Three steps on these rows of each batch, then one evaluation."""
    torch.manual_seed(0)
    model = wrap(nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, D)).double())
    loss = ReconstructionLoss(alpha=1e-2, momentum=0.4, widths=(D, T), **options)
    measured = torch.compile(loss, fullgraph=True, backend="aot_eager") if compiled else loss
    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    values, gradients = [], []
    for seed in range(3):
        x, y = (matrix[rows] for matrix in related(seed=seed))
        optimiser.zero_grad()
        values.append(measured(model(x), y))
        values[-1].backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        optimiser.step()
    with torch.no_grad():
        evaluated = loss.eval()(*(matrix[rows] for matrix in related(seed=9)))
    values = torch.stack(values).detach()
    return {"values": values, "gradients": gradients, "evaluated": evaluated, "state": loss.state_dict()}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    limit = timedelta(seconds=120)
    early = ReconstructionLoss(momentum=0.4, widths=(D, T), group="world")  # before there is a process group
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world, timeout=limit)
    share = SHARES[rank], nn.parallel.DistributedDataParallel
    found: dict[str, Any] = {name: train(options, *share) for name, options in CASES.items()}
    found["group"] = train({"group": dist.group.WORLD}, *share)
    found["compiled"] = train(CASES["shared"], *share, compiled=True)
    early(*(matrix[SHARES[rank]] for matrix in related()))
    found["early"] = early.state_dict()
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
