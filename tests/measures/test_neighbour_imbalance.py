"""Information imbalance against full sorts and against values of DADApy."""

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.errors import InputError
from latentcmp.measures import neighbour_lists
from latentcmp.measures.neighbour_imbalance import information_imbalances
from latentcmp.measures.neighbour_lists import sampled
from latentcmp.measures.similarity import information_imbalance

from . import neighbour_cases as cases


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_ranks_are_those_of_a_sort(k: int, grouped: bool) -> None:
    for x, y in (cases.rows(), cases.integers(), (cases.rows(90)[1] + 1e5, cases.integers()[1])):
        groups = cases.labels(len(x)) if grouped else None
        for a, b in ((x, y), (y, x), (x, x)):
            expected = cases.imbalance(a, b, k, groups)
            assert information_imbalance(a, b, k=k, groups=groups) == pytest.approx(expected, rel=1e-14)


def test_blocks_and_cores_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = dict(zip("xy", map(torch.from_numpy, cases.integers()), strict=True))
    sample = sampled({**matrices, "z": torch.from_numpy(cases.rows(90)[0])}, cases.labels(90))
    expected = information_imbalances(sample, 3)
    before = torch.get_num_threads()
    for numbers, n_threads in ((7 * 90, 1), (7 * 90, 3), (50 * 90, 2)):
        monkeypatch.setattr(neighbour_lists, "_CACHED", numbers)
        torch.set_num_threads(n_threads)
        assert torch.equal(information_imbalances(sample, 3), expected)
    torch.set_num_threads(before)


def test_it_is_that_of_dadapy() -> None:
    """DADApy 0.3.4 on these rows, k = 1 and 3; it needs an older NumPy, so it cannot run here."""
    x, y = cases.rows()
    for a, b, expected in (
        (x, y, (0.28542222222222224, 0.3824592592592593)),
        (y, x, (0.5155555555555555, 0.549037037037037)),
    ):
        assert [information_imbalance(a, b, k=k) for k in (1, 3)] == pytest.approx(expected, rel=1e-12)


def test_a_part_predicts_less_than_the_whole() -> None:
    x = np.random.default_rng(2).normal(size=(400, 3))
    assert information_imbalance(x, x) == pytest.approx(2 / 400)
    assert information_imbalance(x, x[:, :1]) < 0.3 < information_imbalance(x[:, :1], x)
    unrelated = np.random.default_rng(3).normal(size=(400, 3))
    assert information_imbalance(x, unrelated) == pytest.approx(1, abs=0.1)


def test_copies_and_equal_distances_are_ranked_by_row_number() -> None:
    x = np.repeat(cases.rows(6)[0], 5, axis=0)
    for y in (np.eye(30), np.ones((30, 2)), x[::-1].copy(), np.random.default_rng(0).permutation(x)):
        for groups in (None, cases.labels(30, 6)):
            for a, b in ((x, y), (y, x)):
                expected = cases.imbalance(a, b, 2, groups)
                assert information_imbalance(a, b, k=2, groups=groups) == pytest.approx(expected, rel=1e-14)


def test_a_comparison_takes_sources_in_rows() -> None:
    x, y = cases.rows()
    test = np.arange(60)
    found = latentcmp.compare_features({"x": x, "y": y}, test_idx=test, measures=["information_imbalance"])
    assert found.atoms.information_imbalance["x", "y"] == pytest.approx(cases.imbalance(x[test], y[test]))
    assert found.atoms.information_imbalance["y", "x"] == pytest.approx(cases.imbalance(y[test], x[test]))


def test_bad_input_is_named() -> None:
    x, y = cases.rows(12)
    with pytest.raises(InputError, match="information imbalance needs at least 12 rows outside"):
        information_imbalance(x, y, k=12)
    with pytest.raises(InputError, match="got 12 rows in 1 groups, the largest of 12"):
        information_imbalance(x, y, groups=["one"] * 12)
    with pytest.raises(InputError, match=r"k must be an integer of at least 1, got 1\.5"):
        information_imbalance(x, y, k=1.5)  # type: ignore[call-overload]
