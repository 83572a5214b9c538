"""Descriptors of atoms without a model, as baselines: what the elements and the distances to neighbours say alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from latentcmp.errors import InputError
from latentcmp.systems.neighbours import neighbour_pairs

if TYPE_CHECKING:
    from ase import Atoms

N_ELEMENTS = 119  # Z = 0..118
CUTOFF = 6.0  # Angstrom
CENTRES = np.linspace(1.0, CUTOFF, 11)
WIDTH = 0.35  # Angstrom
BONDS = np.array([1.1, 1.25, 1.5, 2.0])  # lengths of a bond, as multiples of the sum of covalent radii
STEEPNESS = 20.0
N_COORDINATION = 3 * len(CENTRES) + len(BONDS)


def element_one_hot(numbers: np.ndarray, elements: Sequence[int] | None = None) -> np.ndarray:
    """Return indicators of the elements of atoms.

    Args:
        numbers: atomic numbers [n_atoms], integers in 0..118.
        elements: distinct atomic numbers of the columns; None: 0 to 118. An atom of another element is a row of zeros.

    Returns:
        [n_atoms, n_elements], float64.

    Raises:
        InputError: `numbers` or `elements` are not atomic numbers, or an element is given twice.
    """
    columns = np.arange(N_ELEMENTS) if elements is None else _atomic_numbers("elements", elements)
    if len(np.unique(columns)) < len(columns):
        raise InputError(f"elements must be distinct, got {columns.tolist()}")
    return (_atomic_numbers("numbers", numbers)[:, None] == columns).astype(np.float64)


def coordination(atoms: "Atoms") -> np.ndarray:
    """Return radial densities and smooth coordination numbers of the atoms of a structure.

    Sums over all neighbours j within 6 Angstrom, periodic images included, at distances d:

        radial(c, w) = sum_j w_j (1 + cos(pi d / 6)) / 2 exp(-((d - c) / 0.35)^2)
        smooth(q) = sum_j 1 / (1 + exp(20 (d / (r + r_j) - q)))

    for eleven centres c from 1 to 6 Angstrom with the weights w = 1, covalent radius r and Z / 50 each, then for q of
    1.1, 1.25, 1.5 and 2. Atoms without neighbours have zeros; columns are not standardised.

    Args:
        atoms: the structure; it may be periodic along any of its axes.

    Returns:
        [n_atoms, 37], float64.
    """
    from ase.data import covalent_radii

    first, second, distances = neighbour_pairs(atoms, CUTOFF)
    numbers, radii = atoms.numbers, covalent_radii[atoms.numbers]
    weights = np.stack([np.ones(len(atoms)), radii, numbers / 50.0], axis=1)
    damping = (1 + np.cos(np.pi * distances / CUTOFF)) / 2
    gaussians = damping[:, None] * np.exp(-(((distances[:, None] - CENTRES) / WIDTH) ** 2))
    radial = (gaussians[:, :, None] * weights[second, None]).reshape(len(first), 3 * len(CENTRES))
    bonds = expit(STEEPNESS * (BONDS - (distances / (radii[first] + radii[second]))[:, None]))
    pair = np.arange(len(first))
    by_atom = csr_array((np.ones(len(pair)), (first, pair)), shape=(len(atoms), len(pair)))
    return by_atom @ np.concatenate([radial, bonds], axis=1)


def _atomic_numbers(name: str, values: np.ndarray | Sequence[int]) -> np.ndarray:
    array = np.asarray(values)
    valid = array.ndim == 1 and (np.issubdtype(array.dtype, np.integer) or not array.size)
    if not valid or np.any((array < 0) | (array >= N_ELEMENTS)):
        raise InputError(
            f"{name} must be a 1-D array of atomic numbers (integers, 0 to {N_ELEMENTS - 1}), "
            f"got shape {array.shape}, dtype {array.dtype}: {array.ravel()[:5].tolist()}"
        )
    return array
