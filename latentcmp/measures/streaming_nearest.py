"""The nearest rows of a stream to fixed queries, with other features of those rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentcmp._runtime.types import Metadata, StateDict
from latentcmp.errors import InputError
from latentcmp.measures.nearest import distances_to, nearest_of_block
from latentcmp.statistics.storage import METADATA, check_metadata, prefixed, under

BLOCK = 4096  # rows whose distances are formed at once
TEMPORARY_BYTES = 64 << 20
NO_ROW = torch.iinfo(torch.int64).max
KIND = "running neighbours"
PAYLOAD = "payload"


class Neighbours(NamedTuple):
    """The k nearest rows of each query, nearest first, exact ties by row number.

    Attributes:
        squared_distances: [m, k] float64.
        rows: [m, k] int64, numbers in the stream.
        payload: {name: [m, k, ...]}, the other features of those rows.
    """

    squared_distances: Tensor
    rows: Tensor
    payload: dict[str, Tensor]


class RunningNeighbours:
    """The k nearest rows (Euclidean) to fixed queries among all rows of a stream, and their payload.

    The result is that of `latentcmp.measures.nearest.nearest` on all rows at once, to the last bit, however the stream
    is cut, in any order, and however it is divided among objects that merge: rows are ranked by
    `exact_squared_distances`, which do not depend on the other rows of a block. Memory holds the neighbours, one block
    of rows and bounded temporaries.

    Args:
        queries: [m, D], finite; compared in float64, fast where rows are centred and scaled.
        k: neighbours of each query, at least 1.

    Raises:
        InputError: the queries or k are not valid.
    """

    def __init__(self, queries: Tensor, k: int) -> None:
        if queries.ndim != 2 or not len(queries) or not bool(queries.isfinite().all()):
            raise InputError(f"queries must be finite, [m, D] with m of at least 1, got {tuple(queries.shape)}")
        if not isinstance(k, int) or k < 1:
            raise InputError(f"k must be an integer of at least 1, got {k!r}")
        self.queries, self.k = queries.detach().to(torch.float64), k
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        m, width = self.queries.shape
        distances = self.queries.new_full((m, self.k), torch.inf)
        self._best = Neighbours(distances, torch.full_like(distances, NO_ROW, dtype=torch.int64), {})
        self._x = self.queries.new_zeros(BLOCK, width)
        self._rows = torch.full((BLOCK,), NO_ROW, device=self.queries.device)
        self._payload: dict[str, Tensor] | None = None
        self._filled = 0

    def update(self, x: Tensor, payload: Mapping[str, Tensor], start: int) -> None:
        """Add rows start, start + 1, ... of the stream.

        Args:
            x: [n, D] on the device of the queries; a row with a NaN or an infinity is never a neighbour.
            payload: {name: [n, ...]}, kept for the neighbours; the same names, shapes and dtypes every time.
            start: the number of the first row.

        Raises:
            InputError: shapes, names, dtypes or devices do not fit.
        """
        self._check(x, payload, start)
        held = self._like(payload)
        done = 0
        while done < len(x):
            size = min(BLOCK - self._filled, len(x) - done)
            into, taken = slice(self._filled, self._filled + size), slice(done, done + size)
            self._x[into] = x[taken].detach()
            self._rows[into] = torch.arange(start + done, start + done + size, device=self._rows.device)
            for name, values in payload.items():
                held[name][into] = values[taken].detach()
            self._filled, done = self._filled + size, done + size
            if self._filled == BLOCK:
                self._empty_block()

    def merge(self, other: "RunningNeighbours") -> None:
        """Add the rows of another object with the same queries, k and kind of payload.

        Raises:
            InputError: queries, k or payload differ.
        """
        if self.k != other.k or not torch.equal(self.queries, other.queries.to(self.queries.device)):
            raise InputError(f"only neighbours of the same queries and k merge, got k {self.k} and {other.k}")
        other._empty_block()
        if other._payload is not None:
            self._merge(other._best)

    def compute(self) -> Neighbours:
        """Return copies of the k nearest of all rows so far.

        Raises:
            InputError: there are fewer than k finite rows, or a row number came twice.
        """
        self._empty_block()
        squared, rows, payload = self._best
        if bool((rows == NO_ROW).any()):
            raise InputError(f"there are fewer than {self.k} finite rows so far; update with more, or ask for fewer")
        in_order = rows.sort(dim=1).values
        if bool((in_order[:, 1:] == in_order[:, :-1]).any()):
            raise InputError("a row number came twice; every row of the stream needs a number of its own")
        return Neighbours(squared.clone(), rows.clone(), {name: values.clone() for name, values in payload.items()})

    def state_dict(self) -> StateDict:
        """Return copies of all tensors, and kind and k under "metadata"."""
        self._empty_block()
        squared, rows, payload = self._best
        state = {"queries": self.queries.clone(), "squared_distances": squared.clone(), "rows": rows.clone()}
        held = {name: values.clone() for name, values in payload.items()}
        return {**state, **prefixed(PAYLOAD, held), METADATA: self.metadata()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all rows by those of a `state_dict` of the same queries and k, from any device.

        Raises:
            InputError: the state is of another kind, k or queries.
        """
        check_metadata(state, self.metadata())
        if not torch.equal(self.queries, state["queries"].to(self.queries.device)):
            raise InputError("a state of other queries cannot be loaded; make the object with the same queries")
        self.reset()
        self._merge(Neighbours(state["squared_distances"], state["rows"], under(PAYLOAD, state)))

    def metadata(self) -> Metadata:
        """Return the kind and k, which a state to load must have."""
        return {"kind": KIND, "k": self.k}

    def _merge(self, other: Neighbours) -> None:
        """Take the neighbours of other rows, from any device, into these."""
        device = self.queries.device
        squared, rows = other.squared_distances.to(device), other.rows.to(device)
        payload = {name: values.to(device) for name, values in other.payload.items()}
        nearest = {name: values[:, 0] for name, values in payload.items()}
        self._check_payload(nearest, len(self.queries))
        self._like(nearest)
        for chosen in self._slices():
            some = {name: values[chosen] for name, values in payload.items()}
            self._put(chosen, Neighbours(squared[chosen], rows[chosen], some))

    def _empty_block(self) -> None:
        """Take the rows of the block into the neighbours."""
        if not self._filled:
            return
        assert self._payload is not None
        rows, order = self._rows[: self._filled].sort()
        x = self._x[order]
        norms = torch.linalg.vecdot(x, x)
        known = norms.isfinite()
        x, norms = torch.where(known[:, None], x, 0), torch.where(known, norms, torch.inf)
        rows = torch.where(known, rows, NO_ROW)
        for chosen in self._slices():
            queries = self.queries[chosen]
            near = nearest_of_block(x, norms, queries, min(self.k, len(x)))
            payload = {name: values[order[near]] for name, values in self._payload.items()}
            self._put(chosen, Neighbours(distances_to(x, norms, queries, near), rows[near], payload))
        self._filled = 0

    def _put(self, chosen: slice, found: Neighbours) -> None:
        """Keep the k best of those held for some queries and those found."""
        squared = torch.cat([self._best.squared_distances[chosen], found.squared_distances], dim=1)
        rows = torch.cat([self._best.rows[chosen], found.rows], dim=1)
        order = rows.argsort(dim=1)
        order = order.gather(1, squared.gather(1, order).argsort(dim=1, stable=True))[:, : self.k]
        self._best.squared_distances[chosen] = squared.gather(1, order)
        self._best.rows[chosen] = rows.gather(1, order)
        queries = torch.arange(len(order), device=order.device)[:, None]
        for name, values in self._best.payload.items():
            values[chosen] = torch.cat([values[chosen], found.payload[name]], dim=1)[queries, order]

    def _slices(self) -> list[slice]:
        """Queries whose distances to a block, and whose payload, fit in memory that is bounded."""
        widest = max([values[0, 0].nbytes for values in self._best.payload.values()], default=0)
        step = max(1, TEMPORARY_BYTES // (4 * max(8 * BLOCK, self.k * widest)))
        return [slice(start, start + step) for start in range(0, len(self.queries), step)]

    def _like(self, payload: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The payload of the block, made when its names, shapes and dtypes are known."""
        if self._payload is None:
            shape = self._best.rows.shape
            self._payload = {name: values.new_zeros(BLOCK, *values.shape[1:]) for name, values in payload.items()}
            self._best.payload.update(
                {name: values.new_zeros(*shape, *values.shape[1:]) for name, values in payload.items()}
            )
        return self._payload

    def _check(self, x: Tensor, payload: Mapping[str, Tensor], start: int) -> None:
        width, device = self.queries.shape[1], self.queries.device
        if x.ndim != 2 or x.shape[1] != width or x.device != device or start < 0:
            raise InputError(
                f"rows must be [n, {width}] on {device} and start at 0 or above, got {tuple(x.shape)} on {x.device} "
                f"from {start}"
            )
        self._check_payload(payload, len(x))

    def _check_payload(self, payload: Mapping[str, Tensor], n: int) -> None:
        device = self.queries.device
        for name, values in payload.items():
            if values.device != device or values.shape[:1] != (n,):
                raise InputError(f"{name} must be [{n}, ...] on {device}, got {tuple(values.shape)} on {values.device}")
        if self._payload is None:
            return
        kinds = [
            {name: (tuple(values.shape[1:]), values.dtype) for name, values in known.items()}
            for known in (self._payload, payload)
        ]
        if kinds[0] != kinds[1]:
            raise InputError(f"the payload was {kinds[0]} before and is {kinds[1]} now; give the same every time")
