"""Pairs of atoms within a cutoff, over periodic images: the neighbour list that the rules of this package read."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from ase import Atoms


def neighbour_pairs(atoms: "Atoms", cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List all pairs of atoms closer than a cutoff, in both directions, as `ase.neighborlist.neighbor_list("ijd")`.

    Args:
        atoms: the structure; it may be periodic along any of its axes, and its atoms may lie outside the cell.
        cutoff: Angstrom.

    Returns:
        First atoms (int64), second atoms (int64) and distances (float64, Angstrom) of the pairs, in no special order;
        an atom is paired with its own images too. O(n log n) in the atoms.
    """
    positions, images, owners = _images(atoms, cutoff)
    within = cKDTree(positions).sparse_distance_matrix(cKDTree(images), cutoff, output_type="ndarray")
    within = within[(within["i"] != within["j"]) & (within["v"] < cutoff)]  # the first images are the atoms themselves
    return within["i"].astype(np.int64), owners[within["j"]], within["v"]


def _images(atoms: "Atoms", cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wrapped positions, positions of the images that can be within the cutoff of one, and the atoms of the images."""
    cell, periodic = atoms.cell.complete().array, np.asarray(atoms.pbc)
    inverse = np.linalg.inv(cell)
    scaled = atoms.positions @ inverse
    scaled[:, periodic] %= 1.0
    margin = cutoff * np.linalg.norm(inverse, axis=0)  # the cutoff over the heights of the cell
    reach = np.where(periodic, np.ceil(margin), 0).astype(int)
    shifts = np.indices((2 * reach + 1).tolist()).reshape(3, -1).T - reach
    shifts = shifts[np.argsort(np.abs(shifts).sum(1), kind="stable")]  # no shift comes first
    moved = (scaled + shifts[:, None]).reshape(-1, 3)
    near = (((moved >= -margin) & (moved <= 1 + margin)) | ~periodic).all(1)
    owners = np.tile(np.arange(len(atoms)), len(shifts))
    return scaled @ cell, moved[near] @ cell, owners[near]
