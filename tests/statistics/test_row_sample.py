"""Samples of atoms against a sort of all keys, for any order, cut and merging."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.row_keys import row_keys
from latentcmp.statistics.row_sample import AtomSample

WIDTHS = {"a": 3, "b": 5}
COUNTS = [7, 1, 0, 40, 12, 120, 3, 60]
IDS = [f"structure {i}" for i in range(len(COUNTS))]
N_ATOMS = sum(COUNTS)


def features(n: int = N_ATOMS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.randn(n, width, generator=generator) for name, width in WIDTHS.items()}
    return {"a": values["a"], "b": values["b"].to(torch.bfloat16)}


def smallest(capacity: int) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """By sorting tuples of all keys in plain Python."""
    keys = row_keys(IDS, COUNTS)
    order = sorted(range(N_ATOMS), key=lambda row: tuple(int(part) for part in keys[row]))[:capacity]
    return keys[order], {name: values[order] for name, values in features().items()}


def assert_same(found: AtomSample, expected: tuple[np.ndarray, dict[str, torch.Tensor]]) -> None:
    keys, values, _ = found.compute()
    np.testing.assert_array_equal(keys, expected[0])
    for name in WIDTHS:
        assert values[name].dtype == expected[1][name].dtype
        assert torch.equal(values[name], expected[1][name])


@pytest.mark.parametrize("capacity", [1, 20, N_ATOMS - 1, N_ATOMS, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_any_order_cut_and_merging_gives_the_smallest_keys(capacity: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys, rows = row_keys(IDS, COUNTS), rng.permutation(N_ATOMS)
    samples = [AtomSample(WIDTHS, capacity) for _ in range(3)]
    edges = [0, *np.sort(rng.integers(N_ATOMS, size=12)), N_ATOMS]
    for start, stop in pairwise(edges):
        chosen = rows[start:stop]
        some = {name: values[torch.from_numpy(chosen)] for name, values in features().items()}
        samples[rng.integers(3)].update(keys[chosen], some)
    samples[1].merge(samples[2])
    samples[1].merge(samples[0])
    assert_same(samples[1], smallest(capacity))


def test_ties_of_the_hash_fall_to_structure_then_atom() -> None:
    keys = np.array([[5, 2, 0], [5, 1, 9], [5, 1, 3], [4, 9, 9], [5, 0, 7]], dtype=np.uint64)
    values = {name: torch.arange(5.0)[:, None].repeat(1, width) for name, width in WIDTHS.items()}
    for order in ([0, 1, 2, 3, 4], [4, 2, 3, 0, 1], [1, 0, 4, 2, 3]):
        sample = AtomSample(WIDTHS, 3)
        for row in order:
            sample.update(keys[[row]], {name: rows[[row]] for name, rows in values.items()})
        assert sample.compute().features["a"][:, 0].tolist() == [3, 4, 2]


def test_keys_are_those_of_the_published_generator() -> None:
    keys = row_keys(IDS, COUNTS)
    state = int(keys[8, 1])  # the structure of 40 atoms
    for key in keys[8:48]:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        assert int(key[0]) == z ^ (z >> 31)
    assert keys[8:48, 2].tolist() == list(range(40))


def test_keys_depend_on_id_and_seed_alone_and_are_uniform() -> None:
    keys = row_keys(IDS, COUNTS)
    np.testing.assert_array_equal(row_keys(IDS[3:4], COUNTS[3:4]), keys[8:48])
    assert row_keys([], []).shape == (0, 3)
    assert not np.any(row_keys(IDS, COUNTS, seed=1)[:, 0] == keys[:, 0])
    hashes = row_keys([str(i) for i in range(2000)], np.full(2000, 20))[:, 0] / 2.0**64
    scipy_stats = pytest.importorskip("scipy.stats")
    assert scipy_stats.kstest(hashes, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("capacity", [20, 1000])
def test_a_saved_sample_goes_on(capacity: int, tmp_path: Path) -> None:
    keys, path = row_keys(IDS, COUNTS), tmp_path / "sample.safetensors"
    sample = AtomSample(WIDTHS, capacity)
    sample.save(path)
    sample = AtomSample.load(path)
    sample.update(keys[:150], {name: values[:150] for name, values in features().items()})
    sample.save(path)
    sample = AtomSample.load(path)
    sample.update(keys[150:], {name: values[150:] for name, values in features().items()})
    assert_same(sample, smallest(capacity))
    assert_same(sample, smallest(capacity))


def test_bad_input_is_named(tmp_path: Path) -> None:
    keys, values, sample = row_keys(IDS, COUNTS), features(), AtomSample(WIDTHS, 10)
    sample.update(keys, values)
    with pytest.raises(InputError, match=r"keys must be the array \[n, 3\]"):
        sample.update(keys[:, 0], values)
    with pytest.raises(InputError, match="expected features of a, b, got a"):
        sample.update(keys, {"a": values["a"]})
    with pytest.raises(InputError, match=r"a must be \[243, 3\], got \(242, 3\)"):
        sample.update(keys, {**values, "a": values["a"][1:]})
    with pytest.raises(InputError, match=r"b came as torch.bfloat16 on cpu before and as torch.float32"):
        sample.update(keys, {**values, "b": values["b"].float()})
    with pytest.raises(InputError, match="same widths, capacity, seed and labels"):
        sample.merge(AtomSample(WIDTHS, 10, seed=1))
    with pytest.raises(InputError, match="came twice"):
        sample.merge(sample)
        sample.compute()
    with pytest.raises(InputError, match="capacity of at least 1"):
        AtomSample(WIDTHS, 0)
    with pytest.raises(InputError, match="one number of atoms for each of 8 ids"):
        row_keys(IDS, COUNTS[1:])
    JointStatistics(WIDTHS).save(tmp_path / "statistics")
    with pytest.raises(InputError, match="holds joint statistics, expected an atom sample"):
        AtomSample.load(tmp_path / "statistics")
