"""A sample of atoms that depends on their identity alone, not on the order or the pieces in which they came."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import copy_without_sync
from latentcmp._runtime.types import Metadata, StateDict
from latentcmp.errors import InputError
from latentcmp.statistics.storage import (
    METADATA,
    Expected,
    check_metadata,
    check_tensors,
    prefixed,
    read_state,
    tensors_of,
    under,
    write_state,
)

KIND = "an atom sample"


class SampledAtoms(NamedTuple):
    """Atoms of a sample in the order of their keys.

    Attributes:
        keys: `row_keys` [m, 3].
        features: {name: [m, D]}.
        labels: {name: [m]}, int64, on the host.
    """

    keys: np.ndarray
    features: dict[str, Tensor]
    labels: dict[str, np.ndarray]


class AtomSample:
    """The atoms with the smallest keys, with their features in every matrix and integer labels.

    The atoms and every bit of their features do not depend on the order of updates, nor on how rows were cut into
    updates and merged samples. Features keep their dtype and device; between calls up to twice the capacity is held.

    Args:
        widths: columns of each feature matrix, by name.
        capacity: greatest number of atoms.
        seed: that of `row_keys`.
        labels: names of integers that come with each atom, such as its row number.

    Raises:
        InputError: there is no matrix, a matrix has no column, or the capacity is below 1.
    """

    def __init__(self, widths: Mapping[str, int], capacity: int, seed: int = 0, labels: Sequence[str] = ()) -> None:
        if not widths or min(widths.values()) < 1 or capacity < 1:
            raise InputError(
                f"an atom sample needs at least one matrix of at least one column and a capacity of at least 1, got "
                f"{dict(widths)} and {capacity}"
            )
        self.widths = {name: int(width) for name, width in widths.items()}
        self.capacity, self.seed, self.labels = int(capacity), seed, tuple(labels)
        self.reset()

    def update(
        self, keys: np.ndarray, features: Mapping[str, Tensor], labels: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Add atoms, without host synchronisation.

        Args:
            keys: `row_keys` [n, 3].
            features: {name: [n, D]}.
            labels: {name: [n]}, integers on the host, for the names of the sample.

        Raises:
            InputError: keys, names, widths, dtypes or devices do not fit.
        """
        labels = labels or {}
        self._check(keys, features, labels)
        rows = np.flatnonzero(keys[:, 0] <= self._last)
        if not len(rows):
            return
        self._keys.append(keys[rows])
        for name, values in features.items():
            self._features[name].append(values.detach()[copy_without_sync(torch.from_numpy(rows), values.device)])
        for name in self.labels:
            self._labels[name].append(labels[name][rows].astype(np.int64))
        if sum(map(len, self._keys)) >= 2 * self.capacity:
            self._compact()

    def merge(self, other: "AtomSample") -> None:
        """Add the atoms of another sample of the same widths, capacity, seed and labels."""
        if other._metadata() != self._metadata():
            raise InputError(
                f"only samples of the same widths, capacity, seed and labels merge, got {self._metadata()} and "
                f"{other._metadata()}"
            )
        atoms = other.compute()
        if len(atoms.keys):
            self.update(*atoms)

    def compute(self) -> SampledAtoms:
        """Return the sample, of at most `capacity` atoms. Raises InputError where an atom came twice."""
        self._compact()
        features = {
            name: pieces[0] if pieces else torch.empty(0, self.widths[name]) for name, pieces in self._features.items()
        }
        return SampledAtoms(self._keys[0], features, {name: pieces[0] for name, pieces in self._labels.items()})

    def reset(self) -> None:
        """Remove all atoms."""
        self._keys = [np.empty((0, 3), dtype=np.uint64)]
        self._features: dict[str, list[Tensor]] = {name: [] for name in self.widths}
        self._labels = {name: [np.empty(0, dtype=np.int64)] for name in self.labels}
        self._last = np.iinfo(np.uint64).max  # the largest hash that can still be among the smallest

    def state_dict(self) -> StateDict:
        """Return the sample as tensors, and the arguments and kind under "metadata"."""
        atoms = self.compute()
        labels = {name: _copied(values) for name, values in atoms.labels.items()}
        return {
            "keys": _copied(atoms.keys.view(np.int64)),
            **prefixed("features", {name: values.clone() for name, values in atoms.features.items()}),
            **prefixed("labels", labels),
            METADATA: self._metadata(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all atoms by those of a `state_dict`; features stay on the device of the state.

        Raises:
            InputError: the state is of another kind, widths, capacity, seed or labels, or its tensors do not fit.
        """
        check_metadata(state, self._metadata())
        tensors = tensors_of(state)
        n = min(len(tensors.get("keys", ())), self.capacity)
        expected: Expected = {"keys": ((n, 3), torch.int64)}
        expected |= prefixed("features", {name: ((n, width), None) for name, width in self.widths.items()})
        expected |= prefixed("labels", dict.fromkeys(self.labels, ((n,), torch.int64)))
        check_tensors("the state", tensors, expected)
        self.reset()
        if n:
            labels = {name: values.cpu().numpy() for name, values in under("labels", tensors).items()}
            self.update(tensors["keys"].cpu().numpy().view(np.uint64), under("features", tensors), labels)

    def save(self, path: str | Path) -> None:
        """Write `state_dict` to a safetensors file in one atomic write."""
        write_state(Path(path), self.state_dict())

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> "AtomSample":
        """Read a file of `save`. Raises InputError for a file that is missing, damaged or of another format."""
        state = read_state(Path(path), KIND)
        arguments = {name: value for name, value in state[METADATA].items() if name != "kind"}
        sample = cls(**arguments)
        moved = {name: tensor.to(device or "cpu") for name, tensor in tensors_of(state).items()}
        try:
            sample.load_state_dict({**moved, METADATA: state[METADATA]})
        except InputError as error:
            raise InputError(f"{path} cannot be loaded: {error}") from error
        return sample

    def _metadata(self) -> Metadata:
        return {
            "kind": KIND,
            "widths": self.widths,
            "capacity": self.capacity,
            "seed": self.seed,
            "labels": list(self.labels),
        }

    def _check(self, keys: np.ndarray, features: Mapping[str, Tensor], labels: Mapping[str, np.ndarray]) -> None:
        if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.ndim != 2 or keys.shape[1] != 3:
            raise InputError("keys must be the array [n, 3] that row_keys returns")
        if set(features) != set(self.widths):
            raise InputError(f"expected features of {', '.join(self.widths)}, got {', '.join(features)}")
        for name, width in self.widths.items():
            values = features[name]
            if values.shape != (len(keys), width):
                raise InputError(f"{name} must be [{len(keys)}, {width}], got {tuple(values.shape)}")
            held = self._features[name]
            if held and (held[0].dtype, held[0].device) != (values.dtype, values.device):
                raise InputError(
                    f"{name} came as {held[0].dtype} on {held[0].device} before and as {values.dtype} on "
                    f"{values.device} now; give one dtype on one device"
                )
        self._check_labels(labels, len(keys))

    def _check_labels(self, labels: Mapping[str, np.ndarray], n: int) -> None:
        if set(labels) != set(self.labels):
            raise InputError(f"expected labels {', '.join(self.labels) or 'none'}, got {', '.join(labels) or 'none'}")
        for name, values in labels.items():
            if values.shape != (n,) or not np.issubdtype(values.dtype, np.integer):
                raise InputError(f"label {name} must be [{n}] integers, got {values.dtype} {values.shape}")

    def _compact(self) -> None:
        """Keep the smallest keys alone, sorted."""
        keys = np.concatenate(self._keys)
        order = np.lexsort(keys.T[::-1])[: self.capacity]
        smallest = keys[order]
        _check_distinct(smallest)
        self._keys = [smallest]
        self._labels = {name: [np.concatenate(pieces)[order]] for name, pieces in self._labels.items()}
        for name, pieces in self._features.items():
            if pieces:
                values = torch.cat(pieces)
                self._features[name] = [values[copy_without_sync(torch.from_numpy(order), values.device)]]
        if len(smallest) == self.capacity:
            self._last = smallest[-1, 0]


def _copied(values: np.ndarray) -> Tensor:
    """A contiguous copy; without the format an empty one has strides of zero, of which no bytes can be taken."""
    return torch.from_numpy(values).clone(memory_format=torch.contiguous_format)


def _check_distinct(keys: np.ndarray) -> None:
    """Raise InputError where two neighbours of sorted keys are equal."""
    same = (keys[1:] == keys[:-1]).all(axis=1)
    if same.any():
        _, structure, atom = keys[int(same.argmax())]
        raise InputError(
            f"atom {atom} of the structure with key {structure} came twice; give every structure an id of its own, "
            "and every atom once"
        )
