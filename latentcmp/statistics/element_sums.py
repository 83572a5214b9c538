"""Numbers of rows and sums of their columns by part and chemical element, for statistics within elements."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentcmp._runtime.devices import copy_without_sync
from latentcmp._runtime.types import Metadata, StateDict
from latentcmp.errors import InputError
from latentcmp.statistics.joint_moments import side_by_side
from latentcmp.statistics.part_accumulators import CHUNK
from latentcmp.statistics.storage import METADATA, Expected, check_metadata, check_tensors, tensors_of

KIND = "sums by element"
N_ELEMENTS = 119
"""Atomic numbers 0 (an unknown element) to 118."""


class ElementTable(NamedTuple):
    """The result of `ElementSums`.

    Attributes:
        counts: numbers of rows [n_parts, 119], int64, by part and atomic number.
        sums: sums of x - p over these rows [n_parts, 119, D], float64, the columns of all matrices side by side.
        pivot: p [D], float64.
    """

    counts: Tensor
    sums: Tensor
    pivot: Tensor

    def about(self, pivot: Tensor) -> "ElementTable":
        """Return the sums about another pivot [D], such as that of the Gram matrix they are combined with."""
        pivot = pivot.to(self.pivot)
        return ElementTable(self.counts, self.sums + self.counts[..., None] * (self.pivot - pivot), pivot)


class ElementSums:
    """First moments of the rows of several matrices by part and element, in float64 for input of any dtype.

    On a CPU results have the same bits however the rows are cut into updates, as rows are added one after the other;
    on a GPU the order of additions is not fixed.

    Args:
        widths: columns of each matrix, by name.
        n_parts: number of parts.
        device: where the rows are (default: CPU).
        pivot: point [D] that is subtracted from rows (default: zeros); sums keep more digits about one near the rows.

    Raises:
        InputError: widths, the number of parts or the pivot do not fit.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        n_parts: int,
        device: torch.device | str | None = None,
        *,
        pivot: Tensor | None = None,
    ) -> None:
        if not widths or min(widths.values()) < 1 or n_parts < 1:
            raise InputError(
                "sums by element need at least one matrix of at least one column and at least one part, got "
                f"{dict(widths)} and {n_parts}"
            )
        self.widths, self.n_parts = {name: int(width) for name, width in widths.items()}, int(n_parts)
        self.device = torch.device(device or "cpu")
        columns = sum(self.widths.values())
        if pivot is not None and pivot.shape != (columns,):
            raise InputError(f"pivot must be [{columns}], the columns of all, got {tuple(pivot.shape)}")
        self._pivot = torch.zeros(columns, dtype=torch.float64, device=self.device)
        if pivot is not None:
            self._pivot.copy_(pivot.detach())
        self._counts = torch.zeros(self.n_parts, N_ELEMENTS, dtype=torch.int64, device=self.device)
        self._sums = torch.zeros(self.n_parts, N_ELEMENTS, columns, dtype=torch.float64, device=self.device)

    def update(self, features: Mapping[str, Tensor], part: Tensor, numbers: Tensor) -> None:
        """Add rows, without host synchronisation.

        Args:
            features: {name: [n, D]} on the device; values are not read.
            part: part of each row [n], 0 to n_parts - 1, int64, on the CPU or the device.
            numbers: atomic number of each row [n], 0 to 118, int64, on the CPU or the device.

        Raises:
            InputError: names, widths, lengths, dtypes or devices do not fit, or labels on the CPU are out of range.
        """
        self._check(features, part, numbers)
        places = _moved(part, self.device) * N_ELEMENTS + _moved(numbers, self.device)
        self._counts.view(-1).index_add_(0, places, torch.ones_like(places))
        sums = self._sums.flatten(0, 1)
        for name, columns in side_by_side(self.widths).items():
            for start in range(0, len(places), CHUNK):
                rows = features[name].detach()[start : start + CHUNK].double() - self._pivot[columns]
                sums[:, columns].index_add_(0, places[start : start + CHUNK], rows)

    def merge(self, other: "ElementSums") -> None:
        """Add the rows of other sums of the same widths and number of parts, about any pivot."""
        if (list(other.widths.items()), other.n_parts) != (list(self.widths.items()), self.n_parts):
            raise InputError(
                f"only sums of the same widths and number of parts merge, got {self._metadata()} and "
                f"{other._metadata()}"
            )
        table = other.compute().about(self._pivot)
        self._counts += table.counts.to(self.device)
        self._sums += table.sums.to(self.device)

    def compute(self) -> ElementTable:
        """Return the sums of all rows so far, in tensors of their own; later updates are not affected."""
        return ElementTable(self._counts.clone(), self._sums.clone(), self._pivot.clone())

    def reset(self) -> None:
        """Remove all rows; the pivot stays."""
        self._counts.zero_()
        self._sums.zero_()

    def state_dict(self) -> StateDict:
        """Return copies of all tensors, and widths, number of parts and kind under "metadata"."""
        return {**self.compute()._asdict(), METADATA: self._metadata()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all rows and the pivot by those of a `state_dict`, from any device.

        Raises:
            InputError: the state is of another kind, other widths or parts, or its tensors do not fit.
        """
        check_metadata(state, self._metadata())
        held = ElementTable(self._counts, self._sums, self._pivot)._asdict()
        expected: Expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in held.items()}
        check_tensors("the state", tensors_of(state), expected)
        for name, tensor in held.items():
            tensor.copy_(state[name])

    def _metadata(self) -> Metadata:
        return {"kind": KIND, "widths": self.widths, "n_parts": self.n_parts}

    def _check(self, features: Mapping[str, Tensor], part: Tensor, numbers: Tensor) -> None:
        if set(features) != set(self.widths):
            raise InputError(f"expected features of {', '.join(self.widths)}, got {', '.join(features)}")
        n = part.numel()
        _check_labels("part", part, n, self.n_parts)
        _check_labels("numbers", numbers, n, N_ELEMENTS)
        for name, width in self.widths.items():
            values = features[name]
            if values.shape != (n, width) or values.device.type != self.device.type:
                raise InputError(
                    f"{name} must be [{n}, {width}] on {self.device}, got {tuple(values.shape)} on {values.device}"
                )


def _check_labels(name: str, labels: Tensor, n: int, stop: int) -> None:
    """Check the labels of rows; their values only on the CPU, where they are read without synchronisation."""
    if labels.shape != (n,) or labels.dtype != torch.int64:
        raise InputError(f"{name} must be [{n}] int64, got {labels.dtype} {tuple(labels.shape)}")
    if labels.is_cpu:
        outside = labels[(labels < 0) | (labels >= stop)]
        if len(outside):
            raise InputError(f"{name} must be 0 to {stop - 1}, got {torch.unique(outside).tolist()[:8]}")


def _moved(labels: Tensor, device: torch.device) -> Tensor:
    return copy_without_sync(labels, device) if labels.is_cpu else labels
