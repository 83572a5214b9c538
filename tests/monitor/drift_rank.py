"""One rank of a drift monitor over several processes: `drift_rank.py RANK WORLD FOLDER` writes what it found."""

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ase import Atoms
from torch import nn

from latentcmp import DriftMonitor, HookPoint
from latentcmp.models import Adapter, ModelCard
from latentcmp.monitor.torchmetrics import GlobalReconstructionError

ROWS = 301  # odd, so that shares differ


class Toy(Adapter):
    """A model of structures that needs no package: features of an atom from its position and its element."""

    def graph(self, atoms: Atoms) -> torch.Tensor:
        return torch.from_numpy(np.c_[atoms.positions, atoms.numbers]).float()

    def energies(self, graphs: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack([out.mean() for out in self.module(torch.cat(list(graphs))).split(list(map(len, graphs)))])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def toy() -> Toy:
    card = ModelCard("toy", "toy", "toy", "toy", "", "", "", "", frozenset(range(1, 10)), (HookPoint("last", "1"),))
    return Toy(card, network(), torch.device("cpu"))


def structures(sizes: Sequence[int] = ()) -> list[Atoms]:
    rng = np.random.default_rng(0)
    return [
        Atoms(numbers=rng.integers(1, 4, n), positions=3 * np.arange(n)[:, None] + rng.normal(size=(n, 3)))
        for n in sizes or rng.integers(3, 12, 40).tolist()
    ]


def shaken(model: nn.Module) -> None:
    with torch.no_grad():
        for value in model.parameters():
            value += 0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(2))


def rows() -> torch.Tensor:
    return torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1))


def watched(model: Any, module: nn.Module, points: str, group: Any, **options: Any) -> list[dict]:
    monitor = DriftMonitor(model, points, every=1, group=group, **options)
    shaken(module)
    monitor.step(1)
    return monitor.compute()


def of_rows(group: Any) -> list[dict]:
    numbers = torch.randint(1, 4, (ROWS,), generator=torch.Generator().manual_seed(3))
    options = {"segments": torch.arange(ROWS) // 7, "numbers": numbers, "resolve": ("elements", "structures")}
    model = network()
    return watched(model, model, "1", group, probe=rows(), **options)


def of_batches(group: Any) -> list[dict]:
    model = network()
    return watched(model, model, "1", group, probe=list(rows().split(50)))


def of_structures(group: Any) -> list[dict]:
    model = toy()
    return watched(model, model.module, "last", group, probe=structures(), batch_atoms=30)


def of_local(group: Any) -> list[dict]:
    """Of 7 batches one rank has 4."""
    options = {"segments": torch.arange(ROWS) // 7, "local": True}
    model = network()
    return watched(model, model, "1", group, probe=list(rows().split(50)), reference={"1": rows().tanh()}, **options)


def of_local_structures(group: Any) -> list[dict]:
    model = toy()
    return watched(model, model.module, "last", group, probe=structures(), batch_atoms=30, local=True)


def of_few_structures(group: Any) -> list[dict]:
    """Two batches of 30 and 60 atoms: the third rank has no structure."""
    model = toy()
    return watched(model, model.module, "last", group, probe=structures([3] * 10 + [60]), batch_atoms=30, local=True)


def of_one_batch(group: Any) -> list[dict]:
    """One rank alone has rows; the others learn the width of the layer."""
    model = network()
    return watched(model, model, "1", group, probe=(rows(),), segments=torch.arange(ROWS) // 7, local=True)


def of_state(group: Any) -> list[dict]:
    """Taken up from a state that one process and several write alike."""
    model = network()
    monitor = DriftMonitor(model, "1", probe=list(rows().split(50)), every=1, group=group)
    state = monitor.state_dict()
    shaken(model)
    resumed = DriftMonitor(model, "1", probe=list(rows().split(50)), every=1, group=group)
    resumed.load_state_dict(state)
    resumed.step(1)
    return [*resumed.compute(), {"reference": state["reference"]["1"].double().sum(1).tolist()}]


def of_metric(group: Any) -> float:
    """Each rank sees its own rows."""
    x = rows()
    y = (x @ torch.ones(4, 3)).tanh() + 0.1 * x[:, :3]
    rank, world = (dist.get_rank(), dist.get_world_size()) if group is not None else (0, 1)
    metric = GlobalReconstructionError(4, 3)
    metric.update(x[rank::world], y[rank::world], list(range(ROWS))[rank::world])
    return float(metric.compute())


SCENES = {
    "rows": of_rows,
    "batches": of_batches,
    "structures": of_structures,
    "local": of_local,
    "local structures": of_local_structures,
    "few structures": of_few_structures,
    "one batch": of_one_batch,
    "state": of_state,
    "metric": of_metric,
}


def in_training(group: Any) -> dict:
    """A DistributedDataParallel training whose second probe fails on rank 1 alone."""
    model = nn.parallel.DistributedDataParallel(network(), process_group=group)
    monitor = DriftMonitor(model, "1", probe=rows(), every=1, group=group)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(4):
        if step == 2 and dist.get_rank() == 1:
            model.module[1].forward = lambda x: x * torch.ones(3)  # of the wrong width
        monitor.step(step)
        vars(model.module[1]).pop("forward", None)
        model(torch.randn(8, 4)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return {"records": monitor.compute(), "weights": model.module[0].weight.tolist()}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    limit = timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world, timeout=limit)
    for name, scene in {**SCENES, "training": in_training}.items():
        (folder / f"{name}-{rank}.json").write_text(json.dumps(scene(dist.group.WORLD)))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
