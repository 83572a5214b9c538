"""The pooling modules against scipy and torch_geometric's own aggregations."""

import subprocess
import sys

import pytest
import torch
from scipy import stats

from latentcmp.errors import InputError
from latentcmp.nn import CumulantPooling
from latentcmp.ops.segments import Segments


def test_pooling_is_the_order_major_descriptor():
    x = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pool = CumulantPooling(order=3, root=False)
    out = pool(x, torch.tensor([0, 4, 9]))
    want = [stats.moment(x[4:].numpy(), order=m, axis=0) for m in (2, 3)]
    assert out.shape == (2, 12)
    torch.testing.assert_close(out[1, :4], x[4:].mean(0))
    torch.testing.assert_close(out[1, 4:], torch.cat([torch.from_numpy(w) for w in want]))
    assert "order=3" in repr(pool)


def test_pooling_takes_unsorted_segments():
    x = torch.randn(9, 4)
    batch = torch.tensor([1, 0, 1, 1, 0, 2, 0, 1, 2])
    out = CumulantPooling(order=2, flatten=False)(x, Segments.from_index(batch, 4))
    torch.testing.assert_close(out[1, 0], x[batch == 1].mean(0))
    torch.testing.assert_close(out[1, 1], x[batch == 1].var(0, unbiased=False))
    assert torch.count_nonzero(out[3]) == 0


def test_an_order_out_of_range_is_an_input_error():
    with pytest.raises(InputError):
        CumulantPooling(order=9)


def test_the_aggregation_swaps_for_those_of_torch_geometric():
    aggr = pytest.importorskip("torch_geometric.nn.aggr")
    from latentcmp.nn import CumulantAggregation

    x = torch.randn(12, 3, dtype=torch.float64)
    index = torch.tensor([0, 0, 0, 0, 2, 2, 2, 3, 3, 3, 3, 3])
    ours = CumulantAggregation(order=2)
    theirs = aggr.MultiAggregation([aggr.MeanAggregation(), aggr.VarAggregation()])
    assert isinstance(ours, aggr.Aggregation)
    assert repr(ours) == "CumulantAggregation(order=2, root=False)"
    torch.testing.assert_close(ours(x, index), theirs(x, index))
    torch.testing.assert_close(ours(x, index, dim_size=6), theirs(x, index, dim_size=6))
    mixed = torch.randperm(12)
    torch.testing.assert_close(ours(x[mixed], index[mixed]), theirs(x, index))
    ptr = torch.tensor([0, 4, 4, 7, 12])
    torch.testing.assert_close(ours(x, ptr=ptr), theirs(x, index))
    with pytest.raises(InputError):
        ours(x[None], index)


def test_importing_the_package_brings_in_no_optional_one():
    script = (
        "import sys, latentcmp.nn\n"
        "heavy = {'torch_geometric', 'triton', 'scipy', 'torch_scatter', 'ase', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
