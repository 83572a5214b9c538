"""A monitored layer: its reference, the folds of its rows, and the labels that errors are resolved by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.hooks.layout import Reduce, reduce_columns
from latentcmp.hooks.points import HookPoint
from latentcmp.monitor.labels import Labels
from latentcmp.monitor.ranks import Ranks
from latentcmp.systems.group_folds import N_FOLDS, GroupFolds, block_of_groups


@dataclass(frozen=True)
class Marks:
    """Labels of rows that errors are resolved by.

    Attributes:
        codes: [n] index of the name of each row of this process, on its device.
        names: the labels in the whole probe.
        counts: [n_names] number of rows of each in the whole probe, float64.
    """

    codes: Tensor
    names: list[str]
    counts: Tensor


@dataclass(eq=False)
class Layer:
    """Rows of one layer in this process.

    Attributes:
        point: the hook point.
        positions: for each rank the positions of its rows among all rows of the probe.
        rank: rank of this process.
        fold: [n_rows] fold of each row of the whole probe, int64.
        reference: [n, D] reference features of the rows of this process.
        marks: labels of rows by kind ("elements", "structures").
    """

    point: HookPoint
    positions: list[np.ndarray]
    rank: int
    fold: np.ndarray
    reference: Tensor
    marks: dict[str, Marks] = field(default_factory=dict)

    @property
    def rows(self) -> np.ndarray:
        """Positions of the rows of this process among all rows of the probe."""
        return self.positions[self.rank]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows of the whole probe and of columns of the reference."""
        return len(self.fold), self.reference.shape[1]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    @cached_property
    def n_train(self) -> int:
        """Training rows of the fold that has the fewest."""
        return len(self.fold) - int(np.bincount(self.fold).max())

    @cached_property
    def own_fold(self) -> Tensor:
        """The fold of each row of this process, [n] int64 on the CPU, as statistics take it without synchronising."""
        return torch.from_numpy(self.fold[self.rows])

    def refer(self, rows: Tensor) -> None:
        """Set the reference to rows [n, D] of this process; InputError where they do not fit."""
        name = self.point.name
        if rows.dim() != 2 or len(rows) != len(self.rows) or rows.shape[1] >= self.n_train:
            raise InputError(
                f"the reference of layer {name!r} must be [{len(self.rows)}, D] with D below the {self.n_train} "
                f"training rows of a fold, got {tuple(rows.shape)}"
            )
        if not bool(torch.isfinite(rows).all()):
            raise InputError(f"the reference of layer {name!r} holds a NaN or an infinity")
        self.reference = rows.detach().to(self.reference.device)


def as_rows(values: Sequence[Tensor], point: HookPoint, reduce: Reduce) -> Tensor:
    """Return the activations of all forwards as rows [n, D]; inner dimensions are flattened into rows.

    Args:
        values: one activation [..., D] for each forward.
        point: hook point of the activations.
        reduce: what is kept of equivariant columns.

    Raises:
        InputError: an activation is not real or has no columns.
    """
    reduced = [reduce_columns(value, point.irreps, reduce) for value in values]
    for value in reduced:
        if value.dim() < 2 or not value.is_floating_point():
            raise InputError(f"{point} gives {value.dtype} {tuple(value.shape)}, expected real features [n_rows, D]")
    return torch.cat([value.flatten(0, -2) for value in reduced])


def lay_out(
    point: HookPoint,
    values: Sequence[Tensor],
    reduce: Reduce,
    labels: Labels,
    ranks: Ranks,
    seed: int,
    resolve: Sequence[str],
) -> Layer:
    """Return a layer from its first activations, which become the reference.

    Rows are divided into five folds of groups (`latentcmp.systems.group_folds`): of structures that belong together,
    without structures of batch items.

    Raises:
        InputError: the probe has too few groups, or too few training rows for the columns of the layer.
    """
    rows = as_rows(values, point, reduce)
    sizes = [value.shape[:-1].numel() for value in values]
    positions = ranks.positions(sizes)
    items = _items(values, positions, ranks)
    groups = labels.groups_of(items, point.name)
    n_folds = GroupFolds.of(len(set(groups)), N_FOLDS).n_blocks
    layer = Layer(point, positions, ranks.rank, block_of_groups(groups, n_folds, seed), rows)
    if layer.n_train <= rows.shape[1]:
        raise InputError(
            f"the probe gives layer {point.name!r} {layer.n_train} training rows for its {rows.shape[1]} columns, too "
            f"few to fit a map; give a probe of at least {10 * rows.shape[1]} rows"
        )
    layer.refer(rows)
    named = _named(labels, items, resolve)
    layer.marks = {kind: _marks(names, layer.rows, rows.device) for kind, names in named.items()}
    return layer


def _items(values: Sequence[Tensor], positions: Sequence[np.ndarray], ranks: Ranks) -> np.ndarray:
    """Index of the batch item of each row of the whole probe; all rows of an item are consecutive."""
    own = [np.arange(value.shape[:-1].numel()) % max(1, value.shape[1:-1].numel()) == 0 for value in values]
    begins = np.empty(sum(map(len, positions)), dtype=bool)
    for rows, of_batches in zip(positions, ranks.gather(own), strict=True):
        begins[rows] = np.concatenate(of_batches)
    return np.cumsum(begins) - 1


def _named(labels: Labels, items: np.ndarray, resolve: Sequence[str]) -> dict[str, list[str]]:
    """Labels of all rows by the kind that errors are resolved by, where they are known."""
    found = {}
    if "elements" in resolve and labels.numbers is not None and len(labels.numbers) == len(items):
        found["elements"] = [chemical_symbols[z] for z in labels.numbers]
    if "structures" in resolve and labels.owner is not None and len(labels.owner) == len(items):
        found["structures"] = [labels.ids[system] for system in labels.owner]
    return found


def _marks(names: Sequence[str], own: np.ndarray, device: torch.device) -> Marks:
    unique, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    return Marks(torch.from_numpy(codes[own]).to(device), unique.tolist(), torch.from_numpy(counts).double())


def same_layers(layers: Mapping[str, Layer], reference: Mapping[str, Tensor]) -> None:
    """Raise InputError unless `reference` {layer: [n, D]} holds the rows of every layer's probe."""
    if set(layers) != set(reference):
        raise InputError(f"expected a reference for layers {', '.join(layers)}, got {', '.join(reference) or 'none'}")
    for name, layer in layers.items():
        values = reference[name]
        if values.dim() != 2 or len(values) != layer.shape[0]:
            raise InputError(
                f"the reference of layer {name!r} must hold the {layer.shape[0]} rows of the probe, "
                f"got {tuple(values.shape)}"
            )
