"""Decompositions of small matrices by the reference, against SciPy; bad input."""

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.ops.small_svd import small_svd

from .small_svd_cases import MATRICES, check_svd, make_matrices


@pytest.mark.parametrize("case", MATRICES)
@pytest.mark.parametrize(("n", "width"), [(1, 6), (2, 1), (10, 70), (17, 9)])
def test_decompositions_are_those_of_scipy(case, n, width):
    matrices = make_matrices(case, n, width)
    check_svd(small_svd(matrices), matrices)


@pytest.mark.parametrize("rows", [torch.zeros(2, 3, 4), torch.zeros(3, 4).double(), torch.zeros(2, 0, 4).double()])
def test_bad_input_is_an_input_error(rows):
    with pytest.raises(InputError, match=r"rows must be \[b, n, D\] float64"):
        small_svd(rows)
