"""The operators on a machine with a GPU: every backend, streams, graphs, large tensors, the same bits."""

import os
import sys
from pathlib import Path

import pytest
import torch

from latentcmp import _backend
from latentcmp.errors import InputError
from latentcmp.ops.segment_cumulants import segment_cumulants

sys.path.append(str(Path(__file__).parent / "ops"))
from segment_cases import make_case, scipy_cumulants

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
RAGGED = [3, 0, 17, 1, 64, 65, 1024, 1025, 5000, 0, 33, 40_000, 4]


@pytest.fixture(params=["cuda", "triton", "reference"])
def backend(request):
    reason = _backend.why_missing(request.param)
    if reason and os.environ.get("LATENTCMP_REQUIRE_NATIVE") == "1" and request.param == "cuda":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return request.param


def on_gpu(counts, columns, **options):
    x, ptr = make_case(counts, columns, **options)
    return x, ptr, x.cuda(), ptr.cuda()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("order", [1, 4, 8])
def test_agrees_with_scipy(backend, dtype, order):
    x, ptr, x_gpu, ptr_gpu = on_gpu(RAGGED, 70, dtype=dtype)
    got = segment_cumulants(x_gpu, ptr_gpu, order, backend=backend).double().cpu()
    want = scipy_cumulants(x, ptr, order)
    limit = 1e-10 if dtype == torch.float64 else 5e-6
    assert ((got - want).abs().amax((0, 2)) / want.abs().amax((0, 2))).max() < limit


def test_the_gradient_is_that_of_the_cpu(backend):
    x, ptr, x_gpu, ptr_gpu = on_gpu(RAGGED, 70, dtype=torch.float32)
    slopes = []
    for rows, offsets, name in ((x, ptr, "reference"), (x_gpu, ptr_gpu, backend)):
        rows.requires_grad_()
        out = segment_cumulants(rows, offsets, 4, backend=name)
        slopes.append(torch.autograd.grad(out.sum(), rows)[0].cpu())
    assert (slopes[0] - slopes[1]).abs().max() < 2e-5 * slopes[0].abs().max()


def test_the_same_bits_on_every_run_and_stream(backend):
    _, _, x, ptr = on_gpu(RAGGED, 70, dtype=torch.float32)
    x.requires_grad_()
    found = []
    for stream in (torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.Stream()):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            out = segment_cumulants(x, ptr, 4, backend=backend)
            found.append((out.detach(), torch.autograd.grad(out.sum(), x)[0]))
        torch.cuda.synchronize()
    for out, slope in found[1:]:
        assert torch.equal(out, found[0][0])
        assert torch.equal(slope, found[0][1])


@pytest.mark.parametrize("backend", ["cuda", "triton"], indirect=True)
def test_capturable_in_a_graph_without_a_sync(backend):
    _, _, x, ptr = on_gpu(RAGGED, 70, dtype=torch.float32)
    segment_cumulants(x, ptr, 4, backend=backend)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = segment_cumulants(x, ptr, 4, backend=backend)
    x.mul_(2)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out, segment_cumulants(x, ptr, 4, backend=backend))


@pytest.mark.parametrize("backend", ["cuda", "triton"], indirect=True)
def test_more_elements_than_an_int32_counts(backend):
    if torch.cuda.mem_get_info()[0] < 20 << 30:
        pytest.skip("needs 20 GiB of free device memory")
    rows, columns = 9_000_000, 256
    x = torch.ones(rows, columns, device="cuda", dtype=torch.bfloat16)
    x[-40:] = torch.randn(40, columns, device="cuda", dtype=torch.bfloat16)
    ptr = torch.tensor([0, rows - 40, rows], device="cuda")
    got = segment_cumulants(x, ptr, 4, backend=backend)
    alone = segment_cumulants(x[-40:].clone(), torch.tensor([0, 40], device="cuda"), 4, backend=backend)
    assert torch.equal(got[1], alone[0])
    assert torch.equal(got[0, 0], torch.ones(columns, device="cuda"))
    assert torch.count_nonzero(got[0, 1:]) == 0


def test_offsets_are_checked_where_asked(backend, monkeypatch):
    x, ptr = torch.zeros(3, 2, device="cuda"), torch.tensor([0, 2], device="cuda")
    monkeypatch.setenv("LATENTCMP_CHECK", "1")
    with pytest.raises(InputError):
        segment_cumulants(x, ptr, backend=backend)
    monkeypatch.delenv("LATENTCMP_CHECK")
    with pytest.raises(InputError):
        segment_cumulants(x, ptr.cpu(), backend=backend)
