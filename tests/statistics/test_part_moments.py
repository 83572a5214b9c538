"""Moments of unions of parts, about any mean, against the rows themselves in NumPy."""

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Columns, JointMoments, Method
from latentcmp.statistics.part_moments import PartMoments

WIDTHS = {"a": 4, "b": 6, "c": 3}
N, N_PARTS = 210, 7
PART = np.random.default_rng(1).integers(N_PARTS, size=N)
UNIONS = [(3,), (0, 2, 5), (6, 1), tuple(range(N_PARTS))]
LEADING: Columns = {"b1": ("b", 2), "a": ("a", 4), "b2": ("b", 5)}


def features() -> dict[str, np.ndarray]:
    """Rows far from the origin, of different scales."""
    rng = np.random.default_rng(0)
    return {name: (k + 1) * rng.normal(size=(N, d)) + 5 * k for k, (name, d) in enumerate(WIDTHS.items())}


def joint(method: Method, rows: dict[str, np.ndarray] | None = None) -> JointMoments:
    tensors = {name: torch.from_numpy(values) for name, values in (rows or features()).items()}
    return JointStatistics.of(tensors, torch.from_numpy(PART), method, N_PARTS).compute()


@pytest.fixture(params=["gram", "qr"])
def method(request: pytest.FixtureRequest) -> Method:
    method: Method = request.param
    return method


@pytest.fixture(params=[None, LEADING], ids=["matrices", "leading columns"])
def case(request: pytest.FixtureRequest, method: Method) -> tuple[PartMoments, np.ndarray]:
    """The moments, and their rows about the pivot."""
    moments, columns = joint(method), request.param or {name: (name, d) for name, d in WIDTHS.items()}
    pivots = dict(zip(WIDTHS, np.split(moments.pivot.numpy(), np.cumsum(list(WIDTHS.values()))[:-1]), strict=True))
    rows = [features()[matrix][:, :n] - pivots[matrix][:n] for matrix, n in columns.values()]
    return PartMoments.of(moments, request.param), np.hstack(rows)


@pytest.mark.parametrize("union", UNIONS)
def test_moments_of_a_union_are_those_of_its_rows(case: tuple[PartMoments, np.ndarray], union: tuple[int, ...]) -> None:
    found, rows = case
    chosen = rows[np.isin(PART, union)]
    assert found.count(union) == len(chosen)
    np.testing.assert_allclose(found.mean(union), chosen.mean(0), rtol=1e-11, atol=1e-12)
    for mean in (np.zeros(rows.shape[1]), chosen.mean(0), np.linspace(-1, 2, rows.shape[1])):
        about, centre = chosen - mean, torch.from_numpy(mean)
        gram = about.T @ about
        np.testing.assert_allclose(found.gram_about(union, centre), gram, rtol=1e-11, atol=1e-10)
        np.testing.assert_allclose(found.gram_about(union, centre, slice(2, 6)), gram[2:6], rtol=1e-11, atol=1e-10)
        np.testing.assert_allclose(found.squares_about(union, centre), gram.diagonal(), rtol=1e-11)
        np.testing.assert_allclose(found.sums_about(union, centre), about.sum(0), rtol=1e-11, atol=1e-10)


def test_unions_are_parts_of_the_joined_moments(case: tuple[PartMoments, np.ndarray]) -> None:
    found, rows = case
    joined = found.joined(UNIONS)
    assert joined.counts == tuple(int(np.isin(PART, union).sum()) for union in UNIONS)
    for part, union in enumerate(UNIONS):
        chosen = rows[np.isin(PART, union)]
        np.testing.assert_allclose(joined.grams[part], chosen.T @ chosen, rtol=1e-11, atol=1e-10)
        np.testing.assert_allclose(joined.sums[part], chosen.sum(0), rtol=1e-11, atol=1e-10)
    same = found.joined([(part,) for part in range(N_PARTS)])
    assert torch.equal(same.grams, found.grams)


def test_results_are_tensors_of_their_own(method: Method) -> None:
    found = PartMoments.of(joint(method))
    before = found.grams.clone()
    found.gram_about((2,), torch.zeros(13, dtype=torch.float64)).zero_()
    found.joined([(2,), (3,)]).grams.zero_()
    assert torch.equal(found.grams, before)


def test_scalings_are_those_of_the_training_rows(method: Method) -> None:
    scalings = PartMoments.of(joint(method), LEADING).scalings((0, 2, 5))
    for name, (matrix, n) in LEADING.items():
        train = features()[matrix][np.isin(PART, (0, 2, 5)), :n]
        np.testing.assert_allclose(scalings[name].mean, train.mean(0), rtol=1e-12)
        scale = ((train - train.mean(0)) ** 2).sum(1).mean() ** 0.5
        assert float(scalings[name].scale) == pytest.approx(scale, rel=1e-12)


def test_joint_moments_join_as_their_parts_do(method: Method) -> None:
    moments = joint(method)
    found = moments.joined([(0, 2, 5), (), (3,)])
    assert found.counts.tolist() == [int(np.isin(PART, (0, 2, 5)).sum()), 0, int((PART == 3).sum())]
    grams = found.parts if method == "gram" else found.parts.mT @ found.parts
    each = moments.parts if method == "gram" else moments.parts.mT @ moments.parts
    expected = torch.stack([each[[0, 2, 5]].sum(0), torch.zeros_like(each[0]), each[3]])
    torch.testing.assert_close(grams, expected, rtol=1e-11, atol=1e-10)


def test_values_that_cannot_be_scaled_are_named(method: Method) -> None:
    rows = features()
    rows["b"] = np.where(np.isin(PART, (1, 4))[:, None], 0.1, rows["b"])
    found = PartMoments.of(joint(method, rows))
    n = int(np.isin(PART, (1, 4)).sum())
    with pytest.raises(InputError, match=f"b is constant over the {n} training rows of a fold"):
        found.scalings((1, 4))
    assert set(found.scalings((0, 1))) == set(WIDTHS)
    rows["c"][5, 1] = np.nan
    with pytest.raises(InputError, match="c held a NaN or an infinity"):
        PartMoments.of(joint(method, rows))
