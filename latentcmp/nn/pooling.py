"""Cumulant pooling as modules: for any model, and as an aggregation of torch_geometric."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from latentcmp.errors import InputError, MissingPackageError
from latentcmp.ops.segment_cumulants import MAX_ORDER, segment_cumulants
from latentcmp.ops.segments import Segments


class CumulantPooling(torch.nn.Module):
    """Cumulants 1..order of each column over the atoms of each system.

    Args:
        order: the highest cumulant, 1..8.
        root: return sign(k_m) |k_m|^(1/m), in the unit of the features.
        flatten: return the order-major descriptor [n_systems, order * D] in place of [n_systems, order, D].
    """

    def __init__(self, order: int = 4, root: bool = False, flatten: bool = True) -> None:
        super().__init__()
        if not 1 <= order <= MAX_ORDER:
            raise InputError(f"order must be 1..{MAX_ORDER}, got {order}")
        self.order, self.root, self.flatten = order, root, flatten

    def forward(self, x: Tensor, segments: Segments | Tensor) -> Tensor:
        """Pool x [n_atoms, D] over segments, a `Segments` or offsets ptr [n_systems + 1]."""
        if isinstance(segments, Segments):
            x, segments = segments.arrange(x), segments.ptr
        out = segment_cumulants(x, segments, self.order, root=self.root)
        return out.flatten(1) if self.flatten else out

    def extra_repr(self) -> str:
        """The options shown by `repr`."""
        return f"order={self.order}, root={self.root}, flatten={self.flatten}"


@cache
def aggregation_class() -> type:
    """Define CumulantAggregation on first use: importing this module must not import torch_geometric."""
    try:
        from torch_geometric.nn.aggr import Aggregation
    except ImportError as error:
        raise MissingPackageError("torch_geometric is missing: pip install torch_geometric") from error

    class CumulantAggregation(Aggregation):
        """Cumulants 1..order as a torch_geometric aggregation: [n_atoms, D] to [n_systems, order * D].

        Args:
            order: the highest cumulant, 1..8.
            root: return sign(k_m) |k_m|^(1/m).
        """

        def __init__(self, order: int = 4, root: bool = False) -> None:
            super().__init__()
            self.pool = CumulantPooling(order, root)

        def forward(
            self,
            x: Tensor,
            index: Tensor | None = None,
            ptr: Tensor | None = None,
            dim_size: int | None = None,
            dim: int = -2,
        ) -> Tensor:
            """Aggregate as torch_geometric's aggregations do; `index` may be unsorted, x must be a matrix."""
            if x.dim() != 2 or dim not in (0, -2):
                raise InputError(f"x must be [n_atoms, D] and dim its first, got {tuple(x.shape)}, dim {dim}")
            if ptr is not None:
                return self.pool(x, ptr)
            if index is None:
                return self.pool(x, Segments.from_counts([x.size(0)]).to(x.device))
            return self.pool(x, Segments.from_index(index, dim_size))

        def __repr__(self) -> str:
            return f"CumulantAggregation(order={self.pool.order}, root={self.pool.root})"

    CumulantAggregation.__module__, CumulantAggregation.__qualname__ = "latentcmp.nn", "CumulantAggregation"
    return CumulantAggregation
