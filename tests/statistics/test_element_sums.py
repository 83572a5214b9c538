"""Sums by part and element against loops over the rows in NumPy."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.statistics.element_sums import N_ELEMENTS, ElementSums, ElementTable

WIDTHS = {"a": 5, "b": 8}
N, N_PARTS = 700, 3
RNG = np.random.default_rng(0)
ROWS = {name: RNG.normal(size=(N, width)) + 3 for name, width in WIDTHS.items()}
PART, NUMBERS = RNG.integers(N_PARTS, size=N), RNG.choice([0, 1, 8, 26, 118], size=N)
PIVOT = torch.linspace(2, 4, 13, dtype=torch.float64)


def summed(*edges: int, dtype: torch.dtype = torch.float64, pivot: torch.Tensor | None = PIVOT) -> ElementSums:
    """The sums of rows that come in updates between edges."""
    sums = ElementSums(WIDTHS, N_PARTS, pivot=pivot)
    for start, stop in pairwise(edges):
        features = {name: torch.from_numpy(values[start:stop]).to(dtype) for name, values in ROWS.items()}
        sums.update(features, torch.from_numpy(PART[start:stop]), torch.from_numpy(NUMBERS[start:stop]))
    return sums


def by_loop(rows: Mapping[str, np.ndarray], pivot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts, sums = np.zeros((N_PARTS, N_ELEMENTS), dtype=int), np.zeros((N_PARTS, N_ELEMENTS, 13))
    for row, part, number in zip(np.hstack(list(rows.values())), PART, NUMBERS, strict=True):
        counts[part, number] += 1
        sums[part, number] += row - pivot
    return counts, sums


def same(ours: ElementTable, theirs: ElementTable) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pivot", [PIVOT, None])
def test_rows_are_summed_by_part_and_element(dtype: torch.dtype, pivot: torch.Tensor | None) -> None:
    table = summed(0, N, dtype=dtype, pivot=pivot).compute()
    rows = {name: torch.from_numpy(values).to(dtype).double().numpy() for name, values in ROWS.items()}
    counts, sums = by_loop(rows, np.zeros(13) if pivot is None else pivot.numpy())
    np.testing.assert_array_equal(table.counts.numpy(), counts)
    np.testing.assert_array_equal(table.sums.numpy(), sums)  # the same additions in the same order


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cut_of_the_rows_does_not_change_a_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentcmp.statistics.element_sums.CHUNK", 64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = summed(0, N).compute()
        assert same(summed(0, 1, 1, 200, 213, N).compute(), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("pivot", [PIVOT, PIVOT + 0.5, None])
def test_sums_about_any_pivot_merge(pivot: torch.Tensor | None) -> None:
    whole, other = summed(0, 300), ElementSums(WIDTHS, N_PARTS, pivot=pivot)
    features = {name: torch.from_numpy(values[300:]) for name, values in ROWS.items()}
    other.update(features, torch.from_numpy(PART[300:]), torch.from_numpy(NUMBERS[300:]))
    before = other.compute()
    whole.merge(other)
    counts, sums = by_loop(ROWS, PIVOT.numpy())
    np.testing.assert_array_equal(whole.compute().counts.numpy(), counts)
    np.testing.assert_allclose(whole.compute().sums.numpy(), sums, rtol=0, atol=1e-10)
    assert same(other.compute(), before)


def test_a_table_moves_to_another_pivot() -> None:
    moved = summed(0, N).compute().about(PIVOT.float() - 7)
    np.testing.assert_allclose(moved.sums.numpy(), by_loop(ROWS, PIVOT.numpy() - 7)[1], atol=1e-4)
    assert torch.equal(moved.pivot, (PIVOT.float() - 7).double())


def test_an_update_reads_nothing_on_a_device() -> None:
    sums = ElementSums(WIDTHS, N_PARTS, "meta")
    labels = torch.zeros(4, dtype=torch.int64)
    for part in (labels, labels.to("meta")):
        sums.update({name: torch.empty(4, width, device="meta") for name, width in WIDTHS.items()}, part, labels)
    assert {tensor.device.type for tensor in sums.compute()} == {"meta"}


def test_arguments_that_do_not_fit_are_explained() -> None:
    sums, labels = ElementSums(WIDTHS, N_PARTS), torch.zeros(4, dtype=torch.int64)
    features = {name: torch.zeros(4, width) for name, width in WIDTHS.items()}
    with pytest.raises(InputError, match="expected features of a, b, got a"):
        sums.update({"a": features["a"]}, labels, labels)
    with pytest.raises(InputError, match=r"b must be \[4, 8\] on cpu, got \(4, 7\)"):
        sums.update(features | {"b": torch.zeros(4, 7)}, labels, labels)
    with pytest.raises(InputError, match=r"numbers must be \[4\] int64, got torch.int32 \(4,\)"):
        sums.update(features, labels, labels.int())
    with pytest.raises(InputError, match=r"part must be \[1\] int64, got torch.int64 \(\)"):
        sums.update(features, labels[0], labels)
    with pytest.raises(InputError, match=r"part must be 0 to 2, got \[-1, 3\]"):
        sums.update(features, torch.tensor([0, 3, 2, -1]), labels)
    with pytest.raises(InputError, match=r"numbers must be 0 to 118, got \[119\]"):
        sums.update(features, labels, labels + 119)
    with pytest.raises(InputError, match="only sums of the same widths and number of parts merge"):
        sums.merge(ElementSums({"b": 8, "a": 5}, N_PARTS))
    with pytest.raises(InputError, match=r"pivot must be \[13\], the columns of all, got \(5,\)"):
        ElementSums(WIDTHS, N_PARTS, pivot=torch.zeros(5))
    with pytest.raises(InputError, match="at least one part"):
        ElementSums(WIDTHS, 0)
    assert not sums.compute().counts.any()
