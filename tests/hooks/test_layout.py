"""Invariant columns, against e3nn's own rotation matrices."""

import pytest
import torch
from e3nn.o3 import Irreps, rand_matrix

from latentcmp.errors import InputError
from latentcmp.hooks.layout import reduce_columns

LAYOUT = "3x0e+2x1e+4x2e+2x0e+1x3o"


def test_what_is_kept_does_not_rotate() -> None:
    torch.manual_seed(0)
    irreps = Irreps(LAYOUT)
    values = torch.randn(7, irreps.dim, dtype=torch.float64)
    turned = values @ irreps.D_from_matrix(rand_matrix(dtype=torch.float64)).T
    for reduce, width in (("invariant", 5), ("norms", 5 + 2 + 4 + 1)):
        before, after = (reduce_columns(v, LAYOUT, reduce) for v in (values, turned))
        assert before.shape == (7, width)
        torch.testing.assert_close(before, after, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(reduce_columns(values, LAYOUT, "full"), reduce_columns(turned, LAYOUT, "full"))


def test_scalars_are_the_columns_themselves() -> None:
    values = torch.randn(4, Irreps(LAYOUT).dim)
    expected = torch.cat([values[:, :3], values[:, 3 + 6 + 20 : 3 + 6 + 20 + 2]], dim=1)
    assert torch.equal(reduce_columns(values, LAYOUT), expected)
    assert reduce_columns(values, None) is values


@pytest.mark.parametrize(
    ("irreps", "reduce", "message"),
    [
        ("2x0e", "invariant", "2 columns, but the activation has 3"),
        ("1x1o", "invariant", "no l = 0 column"),
        ("3x0e", "mean", "invariant, norms, full"),
    ],
)
def test_a_layout_that_does_not_fit_is_an_error(irreps: str, reduce: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reduce_columns(torch.randn(2, 3), irreps, reduce)
