"""Noise of features: differences between two runs of a model on nearly equal structures.

The copies of a few structures have their atoms permuted and displaced by 1e-6 Angstrom, and are run in other batches.
Reconstruction errors below the noise are not significant. Features that differ by much more are discontinuous there,
for example where a shell of neighbours lies on the cutoff of the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.progress import Timing
from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError
from latentcmp.features.finite import check_finite
from latentcmp.hooks.layout import Reduce
from latentcmp.models.batching import BATCH_ATOMS
from latentcmp.models.card import Adapter
from latentcmp.models.forward import run_layers
from latentcmp.statistics.row_keys import row_keys
from latentcmp.systems.system import AnySystem, System, offsets

PROBE_SYSTEMS = 64
DISPLACEMENT = 1e-6  # Angstrom
DISCONTINUITY = 1e-3  # of the spread


class StructureNoise(NamedTuple):
    """Differences between two runs of a model on one structure.

    Attributes:
        largest: largest norm of the difference of a row (an atom), in the unit of the features.
        squares: sum of the squared differences of all rows.
        n_atoms: number of rows.
    """

    largest: float
    squares: float
    n_atoms: int


NoiseByLabel = Mapping[str, Mapping[str, Sequence[float]]]
"""`StructureNoise`, or its three numbers, by label of the features and id of the structure."""


class FeatureNoise:
    """The noise of the structures of a probe, by label and id; parts of a probe merge by union.

    Args:
        noise: the noise so far, as of `noise_of` or of `metadata`.
    """

    def __init__(self, noise: NoiseByLabel | None = None) -> None:
        self._noise: dict[str, dict[str, StructureNoise]] = {}
        self.update(noise or {})

    def update(self, noise: NoiseByLabel) -> None:
        """Add structures. Raises InputError for one that came before with another result."""
        for label, given in noise.items():
            structures = self._noise.setdefault(label, {})
            for id, values in given.items():
                new = StructureNoise(float(values[0]), float(values[1]), int(values[2]))
                if structures.setdefault(id, new) != new:
                    raise InputError(f"the noise of structure {id!r} in {label} came twice: {structures[id]} and {new}")

    def merge(self, other: "FeatureNoise") -> None:
        """Add the structures of another part of the probe."""
        self.update(other._noise)

    def compute(self) -> dict[str, dict[str, StructureNoise]]:
        """Return the noise by label and id, structures in the order of their ids."""
        return {label: dict(sorted(structures.items())) for label, structures in self._noise.items()}

    def metadata(self) -> Metadata:
        """Return what the constructor takes, as JSON can hold it."""
        return {label: {id: list(noise) for id, noise in of.items()} for label, of in self.compute().items()}

    def largest(self, label: str) -> float:
        """Return the largest difference of a row over all structures, in the unit of the features; 0 without any."""
        return max((noise.largest for noise in self._noise.get(label, {}).values()), default=0.0)

    def rms(self, label: str) -> float:
        """Return the root mean square difference of the rows, in the unit of the features; 0 without any."""
        structures = self.compute().get(label, {}).values()
        n_atoms = sum(noise.n_atoms for noise in structures)
        return float(np.sqrt(sum(noise.squares for noise in structures) / max(n_atoms, 1)))


def probe_systems(systems: Sequence[AnySystem], n: int = PROBE_SYSTEMS, seed: int = 0) -> list[AnySystem]:
    """Choose the structures with the smallest keyed hashes of their ids, independently of order and machine.

    Args:
        systems: structures with distinct ids.
        n: how many; all where there are fewer.
        seed: key of the hash.

    Returns:
        The chosen structures, in the order of `systems`.

    Raises:
        InputError: `n` is below 1.
    """
    if n < 1:
        raise InputError(f"n must be at least 1, got {n}")
    smallest = np.argsort(_keys(systems, seed), kind="stable")[:n]
    return [systems[position] for position in np.sort(smallest)]


def perturbed_copy(system: System, scale: float = DISPLACEMENT) -> tuple[System, np.ndarray]:
    """Return a copy of a structure with its atoms in another order, and displaced.

    Args:
        system: the structure; its id seeds both changes.
        scale: standard deviation of the Gaussian displacements along each axis, Angstrom.

    Returns:
        The copy, with the same id, and the permutation [n_atoms] (int64): atom i of the copy is atom permutation[i] of
        `system`.
    """
    rng = np.random.default_rng(int(_keys([system], 0)[0]))
    permutation = rng.permutation(len(system))
    atoms = system.atoms[permutation]
    atoms.positions += rng.normal(scale=scale, size=atoms.positions.shape)
    return replace(system, atoms=atoms), permutation


def noise_of(
    adapter: Adapter,
    layers: Mapping[str, str],
    systems: Sequence[System],
    features: Mapping[str, Tensor],
    batch_atoms: int | None = None,
    reduce: Reduce = "invariant",
    *,
    scale: float = DISPLACEMENT,
    timing: Timing | None = None,
) -> dict[str, dict[str, StructureNoise]]:
    """Run a model on perturbed copies of structures, in batches of half the size, and compare with given features.

    Args:
        adapter: the model.
        layers: layers by label.
        systems: the structures.
        features: rows [n_atoms, D] of the structures by label, from batches of `batch_atoms`.
        batch_atoms: atoms in a batch of the given features; None: `BATCH_ATOMS` of the device.
        reduce: that of the given features (`latentcmp.hooks.layout.reduce_columns`).
        scale: displacements of the copies (`perturbed_copy`), Angstrom.
        timing: adds the times of graphs and forwards to it.

    Returns:
        The noise by label and id.

    Raises:
        InputError: features do not fit the layer and the structures, or those of a copy are not finite.
        HookError: as `run_layers` does.
        ModelError: the model failed.
    """
    if not systems:
        return {label: {} for label in layers}
    copies, permutations = zip(*(perturbed_copy(system, scale) for system in systems), strict=True)
    half = max((batch_atoms or BATCH_ATOMS[adapter.device.type]) // 2, *map(len, systems))
    rows = run_layers(adapter, layers.values(), copies, reduce=reduce, batch_atoms=half, timing=timing)
    starts = offsets(systems)
    order = torch.from_numpy(np.concatenate([start + p for start, p in zip(starts[:-1], permutations, strict=True)]))
    noise = {}
    for label, layer in layers.items():
        check_finite(adapter.card.name, rows[layer], copies)
        norms = _difference(label, features, rows[layer], order).split([len(system) for system in systems])
        noise[label] = {system.id: _noise(part) for system, part in zip(systems, norms, strict=True)}
    return noise


def discontinuous(
    noise: FeatureNoise, spreads: Mapping[str, float], threshold: float = DISCONTINUITY
) -> dict[str, list[str]]:
    """Name the structures on which features are discontinuous.

    Args:
        noise: differences between two runs.
        spreads: the spread of the features by label: the root of the sum of the variances of their columns.
        threshold: the largest difference of a row that is allowed, as a fraction of the spread.

    Returns:
        Ids of the structures with a larger one by label, the largest first.
    """
    return {
        label: list(_above(structures, threshold * spreads[label])) for label, structures in noise.compute().items()
    }


def _above(structures: Mapping[str, StructureNoise], limit: float) -> Iterator[str]:
    for id, noise in sorted(structures.items(), key=lambda item: -item[1].largest):
        if noise.largest > limit:
            yield id


def _difference(label: str, features: Mapping[str, Tensor], copied: Tensor, order: Tensor) -> Tensor:
    """Norms [n_atoms] (float64, on the CPU) of the differences; row i of `copied` is that of atom order[i]."""
    if label not in features or features[label].shape != copied.shape:
        given = tuple(features[label].shape) if label in features else "none"
        raise InputError(f"features of {label} must be {tuple(copied.shape)} as of the model, got {given}")
    order = order.to(copied.device)
    difference = copied.double() - features[label].to(copied.device).double()[order]
    return torch.zeros(len(order), dtype=torch.float64).index_copy_(0, order.cpu(), difference.norm(dim=1).cpu())


def _noise(norms: Tensor) -> StructureNoise:
    return StructureNoise(float(norms.max()), float(norms.square().sum()), len(norms))


def _keys(systems: Sequence[AnySystem], seed: int) -> np.ndarray:
    """Keyed hashes of the ids (uint64)."""
    return row_keys([system.id for system in systems], [1] * len(systems), seed)[:, 1]
