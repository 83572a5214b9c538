"""Rows about a centre and their squared norms: every backend against NumPy in float64."""

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.ops import centred_rows

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def make_arguments(columns=37, n=300, dtype=torch.float32):
    """x, rows, centre, and out and squares as they lie in a wider block, filled with NaN."""
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(500, columns, generator=generator, dtype=torch.float64).add(3).to(dtype)
    rows = torch.randint(0, 500, (n,), generator=generator)
    block = torch.full((n, columns + 5), float("nan"), dtype=torch.float64)
    return x, rows, torch.linspace(2, 4, columns, dtype=torch.float64), block[:, 1:-4], block[:, -2]


@pytest.mark.parametrize("columns", [1, 7, 8, 16, 33, 256])
@pytest.mark.parametrize("dtype", DTYPES)
def test_agrees_with_numpy(backend, dtype, columns):
    x, rows, centre, out, squares = make_arguments(columns, dtype=dtype)
    centred_rows(x, rows, centre, out, squares, backend=backend)
    expected = x.double().numpy()[rows] - centre.numpy()
    np.testing.assert_array_equal(out.numpy(), expected)
    np.testing.assert_allclose(squares.numpy(), (expected**2).sum(1), rtol=1e-14)


def test_memory_between_the_rows_is_not_written(backend):
    x, rows, centre, out, squares = make_arguments(33)
    centred_rows(x, rows, centre, out, squares, backend=backend)
    block = out._base
    assert block.isnan().sum() == len(rows) * 4
    assert block[:, [0, -4, -3, -1]].isnan().all()


def test_strided_rows_and_columns(backend):
    x, rows, centre, out, squares = make_arguments(16)
    centred_rows(x, rows, centre, out, squares, backend=backend)
    expected = out.clone(), squares.clone()
    wide = torch.full((500, 40), float("nan"))
    for view in (wide[:, 3:19], wide[:, 1:33:2]):
        centred_rows(view.copy_(x), rows, centre, out.fill_(0), squares.fill_(0), backend=backend)
        assert torch.equal(out, expected[0])
        assert torch.equal(squares, expected[1])


def test_the_same_bits_for_any_number_of_threads_and_any_batch_composition(backend):
    x, rows, centre, out, squares = make_arguments(256, n=3000)
    before = torch.get_num_threads()
    found = []
    for threads, pieces in ((1, 1), (2, 1), (2, 7)):
        torch.set_num_threads(threads)
        parts = (tensor.tensor_split(pieces) for tensor in (rows, out.fill_(0), squares.fill_(0)))
        for chosen, to, norms in zip(*parts, strict=True):
            centred_rows(x, chosen, centre, to, norms, backend=backend)
        found.append((out.clone(), squares.clone()))
    torch.set_num_threads(before)
    assert all(torch.equal(got, want) for other in found[1:] for got, want in zip(other, found[0], strict=True))


def test_no_rows_and_values_that_are_not_finite(backend):
    x, rows, centre, out, squares = make_arguments(9, n=0)
    centred_rows(x, rows, centre, out, squares, backend=backend)
    x, rows, centre, out, squares = make_arguments(9, n=3)
    x[rows[1], 4] = float("inf")
    centred_rows(x, rows, centre, out, squares, backend=backend)
    assert squares.isfinite().tolist() == (rows != rows[1]).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrower_instruction_sets_agree(run_narrowed, dtype, tmp_path):
    x, rows, centre, out, squares = make_arguments(45, dtype=dtype)
    torch.save((x, rows, centre, out, squares), tmp_path / "arguments.pt")
    run_narrowed(
        "from latentcmp.ops import centred_rows\n"
        "arguments = torch.load('arguments.pt')\n"
        "centred_rows(*arguments, backend='cpu')\n"
        "torch.save(arguments[-2:], 'written.pt')\n"
    )
    written, norms = torch.load(tmp_path / "written.pt")
    expected = x.double().numpy()[rows] - centre.numpy()
    np.testing.assert_array_equal(written.numpy(), expected)
    np.testing.assert_allclose(norms.numpy(), (expected**2).sum(1), rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(5, 37, dtype=torch.int64)}, "x must be"),
        ({"rows": torch.zeros(300)}, "rows must be torch.int64"),
        ({"centre": torch.zeros(36, dtype=torch.float64)}, r"centre must be torch.float64 \(37,\)"),
        ({"out": torch.zeros(300, 37)}, "out must be torch.float64"),
        ({"out": torch.zeros(37, 300, dtype=torch.float64).mT}, "unit column stride"),
        ({"squares": torch.zeros(299, dtype=torch.float64)}, "squares must be"),
    ],
)
def test_bad_arguments_are_an_input_error(change, message):
    names = ("x", "rows", "centre", "out", "squares")
    with pytest.raises(InputError, match=message):
        centred_rows(**dict(zip(names, make_arguments(), strict=True)) | change)
