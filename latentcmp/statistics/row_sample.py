"""A sample of atoms that depends on who they are, never on when, where or in how many pieces they came."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import without_waiting
from latentcmp.errors import InputError
from latentcmp.statistics.storage import check_tensors, read_statistics, write_statistics

KIND = "an atom sample"


def row_keys(ids: Sequence[str], counts: Sequence[int] | np.ndarray, seed: int = 0) -> np.ndarray:
    """Keys [n_atoms, 3] (uint64) of the atoms of structures, `counts` atoms each: hash, structure key, atom index.

    The structure key is BLAKE2b of the id, keyed with the seed; the hash is SplitMix64 (Steele, Lea & Flood, OOPSLA
    2014) started at the structure key and advanced to the atom index. Keys order by their columns from left to right;
    within a structure hashes differ, as SplitMix64 is a permutation. Raises InputError for counts that do not fit.
    """
    sizes = np.asarray(counts)
    whole = not sizes.size or np.issubdtype(sizes.dtype, np.integer)
    if sizes.shape != (len(ids),) or not whole or np.any(sizes < 0):
        raise InputError(f"counts must hold one number of atoms for each of {len(ids)} ids, got {sizes!r}")
    sizes = sizes.astype(np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    index = (np.arange(len(starts)) - starts).astype(np.uint64)
    structure = np.repeat(np.array([_structure_key(id, seed) for id in ids], dtype=np.uint64), sizes)
    return np.stack([_splitmix64(structure, index), structure, index], axis=1)


def _structure_key(id: str, seed: int) -> int:
    text = id.encode(errors="surrogateescape")
    digest = blake2b(text, key=str(seed).encode(), person=b"latentcmp-sample", digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _splitmix64(state: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The output of SplitMix64 `steps` + 1 steps after `state`; arithmetic modulo 2^64."""
    z = state + (steps + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class AtomSample:
    """The `capacity` atoms with the smallest keys, with their features in every matrix of `widths`.

    Which atoms they are, and every bit of their features, does not depend on the order of updates or on how the rows
    were cut into updates and merged samples. Features stay in their own dtype on their device; between calls up to
    twice the capacity is held. `seed` is the one that `row_keys` got.
    """

    def __init__(self, widths: Mapping[str, int], capacity: int, seed: int = 0) -> None:
        if not widths or min(widths.values()) < 1 or capacity < 1:
            raise InputError(
                f"an atom sample needs at least one matrix of at least one column and a capacity of at least 1, got "
                f"{dict(widths)} and {capacity}"
            )
        self.widths, self.capacity, self.seed = dict(widths), capacity, seed
        self.reset()

    def reset(self) -> None:
        """Forget all atoms."""
        self._keys = [np.empty((0, 3), dtype=np.uint64)]
        self._features: dict[str, list[Tensor]] = {name: [] for name in self.widths}
        self._last = np.iinfo(np.uint64).max  # the largest hash that can still be among the smallest

    def update(self, keys: np.ndarray, features: Mapping[str, Tensor]) -> None:
        """Add atoms: their `row_keys` [n, 3] and {name: [n, D]}. Nothing is read back from a device.

        Raises InputError for keys, names, widths, dtypes or devices that do not fit.
        """
        self._check(keys, features)
        rows = np.flatnonzero(keys[:, 0] <= self._last)
        if not len(rows):
            return
        self._keys.append(keys[rows])
        for name, values in features.items():
            self._features[name].append(values.detach()[without_waiting(torch.from_numpy(rows), values.device)])
        if sum(map(len, self._keys)) >= 2 * self.capacity:
            self._compact()

    def merge(self, other: "AtomSample") -> None:
        """Add the atoms of another sample of the same widths, capacity and seed."""
        if (other.widths, other.capacity, other.seed) != (self.widths, self.capacity, self.seed):
            raise InputError(
                f"only samples of the same widths, capacity and seed merge, got {self.widths}, {self.capacity}, "
                f"{self.seed} and {other.widths}, {other.capacity}, {other.seed}"
            )
        keys, features = other.rows()
        if len(keys):
            self.update(keys, features)

    def rows(self) -> tuple[np.ndarray, dict[str, Tensor]]:
        """The sample in the order of its keys: [m, 3] and {name: [m, D]}, m at most the capacity.

        Raises InputError where an atom came twice.
        """
        self._compact()
        empty = {name: [torch.empty(0, width)] for name, width in self.widths.items()}
        return self._keys[0], {name: (self._features[name] or empty[name])[0] for name in self.widths}

    def save(self, path: str | Path) -> None:
        """Write the sample to a safetensors file, whole or not at all."""
        keys, features = self.rows()
        tensors = {"keys": torch.from_numpy(keys.view(np.int64))}
        tensors.update({f"features.{name}": values for name, values in features.items()})
        known = {"widths": self.widths, "capacity": self.capacity, "seed": self.seed}
        write_statistics(Path(path), KIND, tensors, known)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> "AtomSample":
        """Read what `save` wrote. Raises InputError for a file that is missing, damaged or of another version."""
        tensors, known = read_statistics(Path(path), KIND)
        found = cls(known["widths"], known["capacity"], known["seed"])
        n = len(tensors.get("keys", ()))
        expected = {f"features.{name}": ((n, width), None) for name, width in found.widths.items()}
        check_tensors(Path(path), tensors, {"keys": ((n, 3), torch.int64), **expected})
        keys = tensors["keys"].numpy().view(np.uint64)
        if n:
            found.update(keys, {name: tensors[f"features.{name}"].to(device or "cpu") for name in found.widths})
        return found

    def _check(self, keys: np.ndarray, features: Mapping[str, Tensor]) -> None:
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

    def _compact(self) -> None:
        """Keep the smallest keys alone, sorted."""
        keys = np.concatenate(self._keys)
        order = np.lexsort(keys.T[::-1])[: self.capacity]
        chosen = keys[order]
        same = (chosen[1:] == chosen[:-1]).all(axis=1)
        if same.any():
            _, structure, atom = chosen[int(same.argmax())]
            raise InputError(
                f"atom {atom} of the structure with key {structure} came twice; give every structure an id of its own, "
                "and every atom once"
            )
        self._keys = [chosen]
        for name, pieces in self._features.items():
            if pieces:
                values = torch.cat(pieces)
                self._features[name] = [values[without_waiting(torch.from_numpy(order), values.device)]]
        if len(chosen) == self.capacity:
            self._last = chosen[-1, 0]
