"""TwoNN against its definition written out and against scikit-dimension."""

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.errors import InputError
from latentcmp.measures import neighbour_lists
from latentcmp.measures.neighbour_dimension import intrinsic_dimensions
from latentcmp.measures.neighbour_lists import sampled
from latentcmp.measures.similarity import intrinsic_dimension

from . import neighbour_cases as cases


def test_it_is_the_slope_of_the_definition() -> None:
    for x in (*cases.rows(), np.concatenate([cases.rows()[0], cases.rows()[0][:40]])):  # with copies
        assert intrinsic_dimension(x) == pytest.approx(cases.two_nn(x), rel=1e-12)


def test_it_takes_the_first_row_of_each_group() -> None:
    x, _ = cases.rows()
    groups = cases.labels(len(x), 60)
    first = np.sort(np.unique(groups, return_index=True)[1])
    assert intrinsic_dimension(x, groups=groups) == pytest.approx(cases.two_nn(x[first]), rel=1e-12)
    given = torch.from_numpy(x), torch.from_numpy(groups)
    assert intrinsic_dimension(given[0], groups=given[1]) == intrinsic_dimension(x, groups=groups)


def test_it_is_that_of_scikit_dimension() -> None:
    skdim = pytest.importorskip("skdim")
    for x in cases.rows(400):
        assert intrinsic_dimension(x) == pytest.approx(skdim.id.TwoNN().fit(x).dimension_, rel=1e-9)


def test_it_is_that_of_dadapy() -> None:
    """DADApy 0.3.4 on these rows; it needs an older NumPy, so it cannot run here."""
    found = [intrinsic_dimension(x) for x in cases.rows(400)]
    assert found == pytest.approx([3.0268877308295252, 3.074365784660787], rel=1e-9)


def test_the_dimension_is_that_of_the_manifold() -> None:
    rng = np.random.default_rng(1)
    for dimension in (1, 2, 4):
        x = np.tanh(0.3 * rng.normal(size=(1500, dimension)) @ rng.normal(size=(dimension, 20)))
        assert intrinsic_dimension(x) == pytest.approx(dimension, rel=0.1)


def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sampled(dict(zip("xy", map(torch.from_numpy, cases.rows()), strict=True)), cases.labels(150, 90))
    expected = intrinsic_dimensions(sample)
    for numbers in (1, 500, 5000):
        monkeypatch.setattr(neighbour_lists, "_CACHED", numbers)
        assert torch.equal(intrinsic_dimensions(sample), expected)


def test_a_comparison_gives_one_value_a_matrix() -> None:
    x, y = cases.rows()
    test = np.arange(60)
    found = latentcmp.compare_features({"x": x, "y": y}, test_idx=test, measures=["intrinsic_dimension"])
    assert found.atoms.intrinsic_dimension["y"] == pytest.approx(cases.two_nn(y[test]), rel=1e-9)


def test_bad_input_is_named() -> None:
    x, _ = cases.rows(20)
    with pytest.raises(InputError, match=r"intrinsic dimension needs at least 2 rows .* got 1 rows in 1 groups"):
        intrinsic_dimension(x, groups=[0] * 20)
    with pytest.raises(InputError, match="dimension of X is undefined: of 20 rows, one a group, 20 have no copy"):
        intrinsic_dimension(np.eye(20))
    with pytest.raises(InputError, match="dimension of X is undefined: of 20 rows, one a group, 0 have no copy"):
        intrinsic_dimension(np.ones((20, 3)))
    with pytest.raises(InputError, match="X holds a NaN or an infinity, first in row 3"):
        intrinsic_dimension(np.where(np.arange(20)[:, None] == 3, np.nan, x))
