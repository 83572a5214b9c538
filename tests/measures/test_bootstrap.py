"""Intervals over structures, against scipy's bootstrap."""

import numpy as np
import pytest
import torch

from latentcmp.measures.bootstrap import Owners


def test_interval_agrees_with_scipy_where_each_row_is_its_own_structure() -> None:
    stats = pytest.importorskip("scipy.stats")
    errors = np.random.default_rng(0).gamma(2.0, size=400)
    summary = Owners([str(row) for row in range(400)]).summarise(torch.from_numpy(errors))
    expected = stats.bootstrap(
        (errors,), lambda e, axis: np.sqrt(np.mean(e**2, axis=axis)), confidence_level=0.9, method="percentile", rng=0
    ).confidence_interval
    assert summary.value == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-12)
    assert summary.low == pytest.approx(expected.low, rel=0.02)
    assert summary.high == pytest.approx(expected.high, rel=0.02)


def test_rows_of_one_structure_widen_the_interval() -> None:
    per_structure = np.random.default_rng(1).gamma(1.0, size=20)
    errors = torch.from_numpy(np.repeat(per_structure, 50))
    by_structure = Owners([str(row // 50) for row in range(1000)]).summarise(errors)
    by_row = Owners([str(row) for row in range(1000)]).summarise(errors)
    assert by_structure.value == pytest.approx(by_row.value)
    assert by_structure.high - by_structure.low > 3 * (by_row.high - by_row.low)


def test_the_structure_that_makes_an_error_is_named() -> None:
    errors = torch.tensor([0.1, 0.1, 7.0, 0.1])
    summary = Owners(["a", "a", "b", "c"]).summarise(errors)
    assert summary.culprit == "b"
    assert summary.share == pytest.approx(49 / 49.03)
    assert summary.median == pytest.approx(0.1)
