"""Segments from counts and from batch vectors, against numpy."""

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.ops.segments import Segments, segment_ids

COUNTS = [2, 0, 3, 1, 0]


def test_counts_and_sorted_index_give_the_same_segments():
    by_counts = Segments.from_counts(COUNTS)
    by_index = Segments.from_index(torch.tensor([0, 0, 2, 2, 2, 3]), n_systems=5)
    assert by_counts.ptr.tolist() == by_index.ptr.tolist() == [0, 2, 2, 5, 6, 6]
    assert by_index.permutation is None
    assert by_counts.n_systems == 5
    assert by_counts.n_rows == 6
    assert by_counts.counts.tolist() == COUNTS
    assert by_counts.row_ids().tolist() == np.repeat(np.arange(5), COUNTS).tolist()


def test_an_unsorted_index_is_sorted_stably():
    batch = np.random.default_rng(0).integers(0, 7, 200)
    segments = Segments.from_index(torch.from_numpy(batch))
    order = np.argsort(batch, kind="stable")
    assert segments.arrange(torch.arange(200)).tolist() == order.tolist()
    assert segments.counts.tolist() == np.bincount(batch).tolist()


def test_a_sorted_index_is_passed_through_unsorted_where_told():
    batch = torch.tensor([0, 1, 1, 4])
    x = torch.arange(4.0)
    assert Segments.from_index(batch, is_sorted=True).arrange(x) is x
    assert torch.equal(Segments.from_index(batch, is_sorted=False).arrange(x), x)


@pytest.mark.parametrize("counts", [[], [0], [0, 0, 3]])
def test_empty_systems_own_no_rows(counts):
    segments = Segments.from_counts(counts)
    assert segments.row_ids().tolist() == np.repeat(np.arange(len(counts)), counts).tolist()
    assert Segments.from_index(segments.row_ids(), len(counts)).ptr.tolist() == segments.ptr.tolist()


def test_row_ids_need_no_data_on_the_host():
    ptr = torch.empty(5, dtype=torch.int64, device="meta")
    assert segment_ids(ptr, 12).shape == (12,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Segments.from_counts([2, -1]),
        lambda: Segments.from_counts(torch.tensor([1.0])),
        lambda: Segments.from_counts(torch.tensor([[1]])),
        lambda: Segments.from_counts([2, 1], n_rows=4),
        lambda: Segments.from_counts(torch.ones(2, dtype=torch.int64, device="meta")),
        lambda: Segments.from_index(torch.tensor([0, 3]), n_systems=3),
        lambda: Segments.from_index(torch.tensor([-1, 0])),
        lambda: Segments.from_index(torch.tensor([1, 0]), is_sorted=True),
        lambda: Segments.from_index(torch.tensor([0.0])),
        lambda: Segments.from_index(torch.zeros(2, dtype=torch.int64, device="meta")),
        lambda: Segments.from_counts([2]).arrange(torch.zeros(3, 1)),
    ],
)
def test_bad_input_is_an_input_error(make):
    with pytest.raises(InputError):
        make()
