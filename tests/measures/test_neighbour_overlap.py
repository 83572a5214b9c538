"""Mutual kNN and CKNNA against the definitions of Huh et al. on n x n matrices."""

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.errors import InputError
from latentcmp.measures import neighbour_lists
from latentcmp.measures.inputs import SampledMatrices
from latentcmp.measures.measure import MeasureOptions
from latentcmp.measures.neighbour_lists import sampled
from latentcmp.measures.neighbour_overlap import cknnas, mutual_knns
from latentcmp.measures.registry import MEASURES
from latentcmp.measures.similarity import cknna, mutual_knn

from . import neighbour_cases as cases


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_mutual_neighbours_are_those_of_a_sort(k: int, grouped: bool) -> None:
    for x, y in (cases.rows(), cases.integers()):
        groups = cases.labels(len(x)) if grouped else None
        expected = cases.mutual_knn(x, y, k, groups)
        assert mutual_knn(x, y, k=k, groups=groups) == pytest.approx(expected, rel=1e-15)
        assert mutual_knn(x, x, k=k, groups=groups) == 1


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("k", [3, 10, 60])
def test_cknna_is_that_of_full_kernels(k: int, grouped: bool) -> None:
    x, y = cases.rows()
    groups = cases.labels(len(x)) if grouped else None
    both_orders = [cases.cknna(x, y, k, groups), cases.cknna(y, x, k, groups)]
    assert cknna(x, y, k=k, groups=groups) == pytest.approx(np.mean(both_orders), rel=1e-10)
    assert cknna(x, y, k=k, groups=groups) == pytest.approx(both_orders[0], abs=5e-3)
    assert cknna(x, x, k=k, groups=groups) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("measure", [mutual_knns, cknnas])
def test_blocks_and_cores_change_no_bit(measure: object, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = dict(zip("xy", map(torch.from_numpy, cases.integers()), strict=True))
    sample = sampled({**matrices, "z": torch.from_numpy(cases.rows(90)[0])}, cases.labels(90))
    expected = measure(sample, 5)  # type: ignore[operator]
    assert torch.equal(expected, expected.T)
    before = torch.get_num_threads()
    for numbers, n_threads in ((7 * 90, 1), (7 * 90, 3), (50 * 90, 2)):
        monkeypatch.setattr(neighbour_lists, "_CACHED", numbers)
        torch.set_num_threads(n_threads)
        assert torch.equal(measure(sample, 5), expected)  # type: ignore[operator]
    torch.set_num_threads(before)


def test_neighbours_ignore_lengths_that_kernels_would_rank_by() -> None:
    x, _ = cases.rows()
    lengths = np.random.default_rng(3).uniform(1, 100, size=(len(x), 1))
    assert cknna(x, cases.unit_rows(x) * 1e-3) > 0.99
    directions = cases.unit_rows(np.concatenate([x, -x]))  # their mean is 0
    longer = directions * np.concatenate([lengths, lengths])
    assert cknna(directions, longer) == pytest.approx(1, rel=1e-9)


def test_a_row_that_is_the_mean_has_no_direction() -> None:
    x = np.concatenate([cases.unit_rows(cases.rows()[0]), np.zeros((1, 5))])
    x = np.concatenate([x, -x])
    assert np.isfinite(cknna(x, x + 1))


def test_copies_are_ranked_by_row_number() -> None:
    x = np.repeat(cases.rows(4)[0], 5, axis=0)
    y = np.random.default_rng(0).permutation(x)
    assert mutual_knn(x, y, k=2) == cases.mutual_knn(x, y, 2)
    constant = np.eye(20)  # all distances equal
    assert mutual_knn(constant, 3 * constant, k=4) == 1
    assert mutual_knn(constant, x, k=4) == cases.mutual_knn(constant, x, 4)


def test_results_are_of_the_kind_of_the_rows() -> None:
    x, y = (torch.from_numpy(values).float() for values in cases.rows())
    for measure in (mutual_knn, cknna):
        assert measure(x, y).dtype == torch.float64
        assert isinstance(measure(x.numpy(), y.numpy()), np.float64)
        names = [f"structure {label}" for label in cases.labels(len(x))]
        assert measure(x, y, groups=names) == measure(x, y, groups=torch.from_numpy(cases.labels(len(x))))


def test_a_comparison_takes_the_test_rows() -> None:
    x, y = cases.rows()
    test = np.arange(60)
    found = latentcmp.compare_features({"x": x, "y": y}, test_idx=test, measures=["mutual_knn", "cknna"])
    assert found.atoms.mutual_knn["x", "y"] == pytest.approx(cases.mutual_knn(x[test], y[test], 10))
    assert found.atoms.cknna["y", "x"] == pytest.approx(cknna(x[test], y[test]), rel=1e-9)


def test_measures_of_a_comparison_leave_out_rows_of_the_same_group() -> None:
    x, y = cases.rows()
    groups = cases.labels(len(x))
    matrices = {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}
    sample = SampledMatrices(matrices, torch.from_numpy(groups))
    found = {name: MEASURES[name].rows(sample, MeasureOptions()) for name in ("mutual_knn", "cknna")}  # type: ignore
    assert found["mutual_knn"][0, 1] == pytest.approx(cases.mutual_knn(x, y, 10, groups), rel=1e-15)
    assert found["mutual_knn"][0, 1] != pytest.approx(cases.mutual_knn(x, y, 10), rel=1e-3)
    assert found["cknna"][1, 0] == cknna(x, y, groups=groups)


def test_bad_input_is_named() -> None:
    x, y = cases.rows(12)
    with pytest.raises(
        InputError, match="mutual kNN needs at least 12 rows outside the group of every row, got 12 rows"
    ):
        mutual_knn(x, y, k=12)
    with pytest.raises(InputError, match="got 12 rows in 1 groups, the largest of 12"):
        mutual_knn(x, y, k=1, groups=[3] * 12)
    with pytest.raises(InputError, match="CKNNA needs at least 10 rows outside"):
        cknna(x, y, groups=[0, 0, 0, *range(9)])
    with pytest.raises(InputError, match="k must be an integer of at least 1, got 0"):
        mutual_knn(x, y, k=0)
    with pytest.raises(InputError, match=r"one label for each of the 12 rows, got shape \(3,\)"):
        mutual_knn(x, y, k=1, groups=[1, 2, 3])
    with pytest.raises(InputError, match="CKNNA needs at least 4 rows, got 3"):
        cknna(x[:3], y[:3], k=1)
    with pytest.raises(InputError, match="Y is constant over the 12 rows"):
        cknna(x, np.full_like(y, 0.1))
    with pytest.raises(InputError, match="CKNNA is undefined: HSIC of X and itself at 19 neighbours is not positive"):
        cknna(np.eye(20), np.eye(20), k=19)  # all kernels equal
    with pytest.raises(InputError, match="same rows, got 12 and 11 rows"):
        mutual_knn(x, y[1:])
