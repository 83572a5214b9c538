"""csrc/cuda/gram_spectra.cu without a GPU: its threads as fibers, against SciPy."""

import ctypes

import pytest
import torch

from latentcmp.measures import local, local_cutoff
from latentcmp.measures.local import local_errors
from latentcmp.ops.gram_spectra.native import gram_spectra_struct
from latentcmp.ops.gram_spectra.reference import empty_gram_spectra

from ..ops.gram_spectra_cases import CASES, check_spectra, make_rows
from .emulation import A100, H100, emulated_gram_spectra, emulated_small_svd


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("k", "width"), [(2, 5), (3, 1), (20, 65), (33, 7), (40, 33)])
def test_spectra_are_those_of_scipy(emulated, case, k, width):
    x, rows = make_rows(case, width, k)
    check_spectra(emulated_gram_spectra(emulated, x, rows, k // 2), x, rows)


@pytest.mark.parametrize("case", ["graded", "duplicated"])
def test_a_whole_block_solves_a_large_problem(emulated, case):
    x, rows = make_rows(case, 50, 96, problems=1)
    check_spectra(emulated_gram_spectra(emulated, x, rows, 48), x, rows)


@pytest.mark.parametrize("shared_bytes", [8000, 6000, 5000])
def test_the_blocks_of_a_cluster_share_a_problem_that_exceeds_one_block(emulated, device, shared_bytes):
    x, rows = make_rows("deficient", 24, 33)
    expected = emulated_gram_spectra(emulated, x, rows, 16)
    device(shared_bytes)
    found = emulated_gram_spectra(emulated, x, rows, 16)
    check_spectra(found, x, rows)
    assert torch.equal(found.gram, expected.gram)


@pytest.mark.parametrize(("k", "shared_bytes"), [(11, H100), (34, H100), (21, 4000)])
def test_no_bit_depends_on_the_order_of_the_threads(emulated, device, k, shared_bytes):
    x, rows = make_rows("random", 40, k)
    found = []
    for last_first in (0, 1):
        device(shared_bytes, last_first=last_first)
        found.append(emulated_gram_spectra(emulated, x, rows, k // 2).tensors())
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_the_number_of_rows_that_fit_depends_on_the_device(emulated, device):
    fits = emulated.lc_cuda_gram_spectra_fits
    assert [fits(k) for k in (0, 2, 128, 512, 1024, 2048)] == [0, 1, 1, 1, 0, 0]
    device(A100, major=8)  # no clusters
    assert [fits(k) for k in (2, 128, 166, 512)] == [1, 1, 0, 0]
    x, rows = make_rows("random", 4, 20)
    device(1000)
    assert fits(20) == 0
    struct = gram_spectra_struct(x, rows, empty_gram_spectra(x, rows, 10))
    assert emulated.lc_cuda_gram_spectra(ctypes.byref(struct)) == -1


def test_nan_affects_its_own_problem_only(emulated):
    x, rows = make_rows("random", 9, 12)
    expected = emulated_gram_spectra(emulated, x, rows, 6)
    x = x.clone()
    x[next(row for row in rows[0].tolist() if row not in rows[1])] = float("nan")
    found = emulated_gram_spectra(emulated, x, rows, 6)
    assert found.whole.squares[0].isnan().all()
    assert all(torch.equal(a[1], b[1]) for a, b in zip(found.tensors(), expected.tensors(), strict=True))


def test_row_strides_and_no_problems(emulated):
    x, rows = make_rows("random", 9, 12)
    apart = torch.full((len(x), 20), float("nan"), dtype=torch.float64)
    apart[:, 5:14] = x
    check_spectra(emulated_gram_spectra(emulated, apart[:, 5:14], rows, 6), x, rows)
    assert emulated_gram_spectra(emulated, x, rows[:0], 6).gram.shape == (0, 12, 12)


@pytest.mark.parametrize(("k", "width"), [(5, 40), (20, 30), (64, 24)])
def test_local_errors_are_those_of_the_cpu(emulated, monkeypatch, k, width):
    generator = torch.Generator().manual_seed(k)
    x, y = (torch.randn(200, n, dtype=torch.float64, generator=generator) for n in (width, 6))
    x *= torch.logspace(0, -6, width, dtype=torch.float64)
    x[:20] = x[20:40]
    arguments = x[:180], x[180:], [(y[:180], y[180:]), (x[:180].tanh(), x[180:].tanh())], k
    expected, decomposed = local_errors(*arguments), []

    def decompose(rows):
        decomposed.append(len(rows))
        return emulated_small_svd(emulated, rows)

    monkeypatch.setattr(local, "gram_spectra", lambda *given: emulated_gram_spectra(emulated, *given))
    monkeypatch.setattr(local_cutoff, "small_svd", decompose)
    for found, wanted in zip(local_errors(*arguments, batch_size=20), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=0)
    assert sum(decomposed) > 0
