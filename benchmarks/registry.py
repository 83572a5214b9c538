"""What is measured: operators, shapes, and the peers each operator is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime import backends
from latentcmp.ops import segment_cumulants
from latentcmp.ops.segments import segment_ids

from .run import is_installed


@dataclass(frozen=True)
class Problem:
    """A feature matrix in segments, with the forms of ptr that the peers ask for."""

    name: str
    x: Tensor
    ptr: Tensor
    index: Tensor

    @property
    def n_systems(self) -> int:
        return self.ptr.size(0) - 1


@dataclass(frozen=True)
class Peer:
    """A way to get cumulants 1..order: ``run(problem)`` gives [n_systems, order, D]."""

    name: str
    run: Callable[[Problem], Tensor]
    orders: int = 4
    differentiable: bool = True
    slow: bool = False
    needs: str = ""

    def missing(self) -> str:
        """Why it cannot run here, or ""."""
        return "" if is_installed(self.needs) else f"{self.needs} is not installed"


SHAPES = {
    "16": (1_000_000, 16),
    "64": (1_000_000, 64),
    "128": (1_000_000, 128),
    "256": (1_000_000, 256),
    "512": (400_000, 512),
    "1024": (200_000, 1024),
}
LENGTHS = {"four": 4, "sixteen": 16, "hundred": 100, "thousand": 1000}
KINDS = ("ragged", *LENGTHS, "one", "batch")


def make_problem(kind: str, rows: int, columns: int, device: str = "cpu", dtype: str = "float32") -> Problem:
    """ragged: mean 33 rows, some of 1, one of rows / 10; four, ...: as LENGTHS; one: one segment; batch: 100."""
    rng = np.random.default_rng(0)
    if kind == "ragged":
        counts = np.r_[rng.integers(20, 47, int(rows * 0.9) // 33), np.ones(20, int), rows // 10]
        rng.shuffle(counts)
    elif kind == "batch":
        counts = rng.integers(20, 41, 100)
    else:
        length = LENGTHS.get(kind, rows)
        counts = np.full(max(1, rows // length), length)
    ptr = torch.from_numpy(np.r_[0, np.cumsum(counts)])
    x = torch.randn(int(ptr[-1]), columns, generator=torch.Generator().manual_seed(0)) + 1.0
    x, ptr = x.to(device, getattr(torch, dtype)), ptr.to(device)
    return Problem(f"{kind} {x.size(0)} x {columns}", x, ptr, segment_ids(ptr, x.size(0)))


def central(x: Tensor, index: Tensor, mean_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Cumulants 1..4 from a segment mean: the composition a user of the peer would write."""
    mean = mean_of(x)
    c = x - mean.index_select(0, index)
    c2 = c * c
    k2 = mean_of(c2)
    return torch.stack([mean, k2, mean_of(c2 * c), mean_of(c2 * c2) - 3 * k2 * k2], 1)


def ours(backend: str | None, order: int = 4) -> Callable[[Problem], Tensor]:
    return lambda p: segment_cumulants(p.x, p.ptr, order, backend=backend)


def scatter_segment_csr(p: Problem) -> Tensor:
    from torch_scatter import segment_csr

    return central(p.x, p.index, lambda v: segment_csr(v, p.ptr, reduce="mean"))


def scatter_mean_alone(p: Problem) -> Tensor:
    from torch_scatter import segment_csr

    return segment_csr(p.x, p.ptr, reduce="mean")[:, None]


def scatter_scatter(p: Problem) -> Tensor:
    from torch_scatter import scatter

    return central(p.x, p.index, lambda v: scatter(v, p.index, 0, dim_size=p.n_systems, reduce="mean"))


def index_add(p: Problem) -> Tensor:
    counts = p.ptr.diff().clamp(min=1)[:, None]
    zeros = p.x.new_zeros(p.n_systems, p.x.size(1))
    return central(p.x, p.index, lambda v: zeros.index_add(0, p.index, v) / counts)


def segment_reduce(p: Problem) -> Tensor:
    lengths = p.ptr.diff()
    return central(p.x, p.index, lambda v: torch.segment_reduce(v, "mean", lengths=lengths, axis=0))


def pyg_scatter(p: Problem) -> Tensor:
    from torch_geometric.utils import scatter

    return central(p.x, p.index, lambda v: scatter(v, p.index, 0, p.n_systems, reduce="mean"))


def pyg_mean_var(p: Problem) -> Tensor:
    from torch_geometric.nn.aggr import MeanAggregation, VarAggregation

    parts = [aggr()(p.x, p.index, dim_size=p.n_systems) for aggr in (MeanAggregation, VarAggregation)]
    return torch.stack(parts, 1)


def numpy_reduceat(p: Problem) -> Tensor:
    starts, counts = p.ptr[:-1].numpy(), p.ptr.diff().numpy()[:, None]

    def mean_of(v: Tensor) -> Tensor:
        return torch.from_numpy(np.add.reduceat(v.numpy(), starts, axis=0) / counts).to(v.dtype)

    return central(p.x, p.index, mean_of)


def scipy_loop(p: Problem) -> Tensor:
    from scipy import stats

    x, out = p.x.numpy(), []
    for a, b in zip(p.ptr[:-1].tolist(), p.ptr[1:].tolist(), strict=True):
        m2, m3, m4 = stats.moment(x[a:b], order=[2, 3, 4], axis=0)
        out.append(np.stack([x[a:b].mean(0), m2, m3, m4 - 3 * m2**2]))
    return torch.from_numpy(np.stack(out))


def compiled() -> Callable[[Problem], Tensor]:
    """torch.compile of the index_add composition: at one thread the strongest of the peers."""

    def composition(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        return index_add(Problem("", x, ptr, index))

    made = torch.compile(composition, dynamic=False)
    return lambda p: made(p.x, p.ptr, p.index)


def pooling_peers(device: str) -> list[Peer]:
    """Every way to pool on a device, ours first."""
    own = [Peer(f"latentcmp {b}", ours(b)) for b in backends.BACKENDS if not _why_not(b, device)]
    return [
        *own,
        Peer("latentcmp order 8", ours(None, 8), orders=8),
        Peer("torch-scatter segment_csr", scatter_segment_csr, needs="torch_scatter"),
        Peer("torch-scatter mean alone", scatter_mean_alone, orders=1, needs="torch_scatter"),
        Peer("torch-scatter scatter", scatter_scatter, needs="torch_scatter"),
        Peer("torch index_add", index_add),
        Peer("torch segment_reduce", segment_reduce),
        Peer("PyG scatter", pyg_scatter, needs="torch_geometric"),
        Peer("PyG mean + var", pyg_mean_var, orders=2, needs="torch_geometric"),
        Peer("torch.compile", compiled()),
        *(host_peers() if device == "cpu" else ()),
    ]


def host_peers() -> list[Peer]:
    """Those that know no other device."""
    return [
        Peer("numpy reduceat", numpy_reduceat, differentiable=False, slow=True),
        Peer("scipy loop", scipy_loop, differentiable=False, slow=True, needs="scipy"),
    ]


def _why_not(backend: str, device: str) -> str:
    if backend != "reference" and backend not in (("cpu",) if device == "cpu" else ("cuda", "triton")):
        return "another device's"
    return backends.why_missing(backend)
