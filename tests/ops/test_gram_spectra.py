"""Gram matrices and their spectra by the reference, against SciPy; bad input."""

import pytest

from latentcmp.errors import InputError
from latentcmp.ops.gram_spectra import gram_spectra

from .gram_spectra_cases import CASES, check_spectra, make_rows


# The reference does not correct the rounding of the mean, which dominates in the two cases left out.
@pytest.mark.parametrize("case", sorted(CASES.keys() - {"equal", "far away"}))
@pytest.mark.parametrize(("k", "width"), [(2, 5), (3, 1), (21, 40), (40, 7)])
def test_spectra_are_those_of_scipy(case, k, width):
    x, rows = make_rows(case, width, k)
    found = gram_spectra(x, rows, k // 2)
    assert [part.squares.shape[1] for part in found[3:]] == [
        min(k // 2, width),
        min(k - k // 2, width),
        min(k - 1, width),
    ]
    check_spectra(found, x, rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, rows, n: (x.float(), rows, n), "x must be"),
        (lambda x, rows, n: (x[:, :0], rows, n), "not empty"),
        (lambda x, rows, n: (x, rows.int(), n), "rows must be"),
        (lambda x, rows, n: (x, rows[0], n), "rows must be"),
        (lambda x, rows, n: (x, rows, 0), "n_first must be 1 to 7 of 8 rows, got 0"),
        (lambda x, rows, n: (x, rows, 8), "got 8"),
    ],
)
def test_bad_input_is_an_input_error(change, words):
    with pytest.raises(InputError, match=words):
        gram_spectra(*change(*make_rows("random", 5, 8), 4))
