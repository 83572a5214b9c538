"""Keys of atoms that depend on their structure and index alone: they choose the sample."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from latentcmp.errors import InputError


def row_keys(ids: Sequence[str], counts: Sequence[int] | np.ndarray, seed: int = 0) -> np.ndarray:
    """Return keys of the atoms of structures, by which `AtomSample` orders them.

    The structure key is BLAKE2b of the id, keyed with the seed; the hash is SplitMix64 (Steele, Lea & Flood, OOPSLA
    2014) started at the structure key and advanced to the atom index. Within a structure hashes differ, as SplitMix64
    is a permutation.

    Args:
        ids: distinct names of structures.
        counts: numbers of atoms of the structures.
        seed: another seed makes another sample.

    Returns:
        [n_atoms, 3], uint64: hash, structure key and atom index, ordered by columns from left to right.

    Raises:
        InputError: `counts` does not hold one number for each id.
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
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed
