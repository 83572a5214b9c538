"""The operators on a machine with a GPU: every backend, streams, graphs, large tensors, the same bits."""

import os
from copy import deepcopy

import pytest
import torch

from latentcmp import DriftMonitor, compare_features
from latentcmp._runtime import backends
from latentcmp.errors import InputError
from latentcmp.measures import similarity
from latentcmp.measures.local import local_errors
from latentcmp.measures.streaming_nearest import RunningNeighbours
from latentcmp.ops.cutoff_losses import cutoff_losses
from latentcmp.ops.gram_spectra import gram_spectra
from latentcmp.ops.local_ridge import local_ridge
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.ops.small_svd import small_svd
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.row_keys import row_keys
from latentcmp.statistics.row_sample import AtomSample

from ..ops.cutoff_losses_cases import make_problem, sklearn_losses
from ..ops.gram_spectra_cases import CASES, check_spectra, make_rows
from ..ops.local_ridge_cases import make_problem as make_neighbourhoods
from ..ops.local_ridge_cases import numpy_errors
from ..ops.segment_cumulants_cases import make_case, scipy_cumulants
from ..ops.small_svd_cases import MATRICES, check_svd, make_matrices

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
RAGGED = [3, 0, 17, 1, 64, 65, 1024, 1025, 5000, 0, 33, 40_000, 4]


@pytest.fixture(params=["cuda", "triton", "reference"])
def backend(request):
    reason = backends.why_missing(request.param)
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
def test_capturable_in_a_graph(backend):
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


def test_offsets_are_checked_under_latentcmp_check(backend, monkeypatch):
    x, ptr = torch.zeros(3, 2, device="cuda"), torch.tensor([0, 2], device="cuda")
    monkeypatch.setenv("LATENTCMP_CHECK", "1")
    with pytest.raises(InputError):
        segment_cumulants(x, ptr, backend=backend)
    monkeypatch.delenv("LATENTCMP_CHECK")
    with pytest.raises(InputError):
        segment_cumulants(x, ptr.cpu(), backend=backend)


def test_statistics_agree_with_those_of_the_cpu_and_reduce_by_nccl(tmp_path):
    widths, part = {"a": 6, "b": 9}, torch.arange(300) % 3
    rows = {name: torch.randn(300, width, dtype=torch.float64) for name, width in widths.items()}
    found = {}
    for device in ("cpu", "cuda"):
        found[device] = JointStatistics(widths, device=device)
        found[device].update({name: values.to(device) for name, values in rows.items()}, part.to(device))
    meeting = f"file://{tmp_path / 'meeting'}"
    torch.distributed.init_process_group("nccl", init_method=meeting, rank=0, world_size=1)
    try:
        found["cuda"].all_reduce()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(found["cuda"].errors(), found["cpu"].errors(), rtol=1e-10, atol=1e-12)
    for measure in (similarity.linear_cka, similarity.procrustes_distance, similarity.cca):
        torch.testing.assert_close(measure(found["cuda"]), measure(found["cpu"]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["gram", "qr"])
@pytest.mark.parametrize("widths", [(64, 64, 9), (256, 256), (300, 512)])
def test_global_errors_are_those_of_the_cpu(method, widths):
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(6000, 40, generator=generator)
    rows = {
        str(k): torch.tanh(latent @ torch.randn(40, width, generator=generator) / 6)
        + 0.05 * torch.randn(6000, width, generator=generator)
        for k, width in enumerate(widths)
    }
    part, found = torch.arange(6000) % 3, {}
    for device in ("cpu", "cuda"):
        statistics = JointStatistics({name: x.shape[1] for name, x in rows.items()}, method, device)
        for chosen in torch.arange(6000).split(1700):
            statistics.update({name: x[chosen].to(device) for name, x in rows.items()}, part[chosen].to(device))
        found[device] = statistics.errors()
    off_diagonal = ~torch.eye(len(widths), dtype=torch.bool)
    torch.testing.assert_close(found["cuda"][off_diagonal], found["cpu"][off_diagonal], rtol=1e-8, atol=0)
    assert found["cuda"].diagonal().max() < 1e-6


def test_samples_and_neighbours_stay_on_the_device_and_agree_with_the_cpu():
    x, queries = torch.randn(5000, 8, dtype=torch.float64), torch.randn(50, 8, dtype=torch.float64)
    found = {}
    for device in ("cpu", "cuda"):
        sample, stream = AtomSample({"x": 8}, 100), RunningNeighbours(queries.to(device), 7)
        sample.update(row_keys(["s"], [5000]), {"x": x.to(device)})
        stream.update(x.to(device), {"x": x.to(device)}, 0)
        nearest = stream.compute()
        found[device] = [sample.compute().features["x"], nearest.rows, nearest.payload["x"]]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert ours.is_cuda
        assert torch.equal(ours.cpu(), theirs)


@pytest.mark.parametrize("backend", ["cuda", "reference"], indirect=True)
@pytest.mark.parametrize(("sizes", "columns"), [((5, 6), 7), ((14, 17), 300)])
def test_losses_agree_with_scikit_learn(backend, sizes, columns):
    problem = make_problem(sizes, columns)
    _, y, *folds = problem
    on_device = [type(fold)(*(part.cuda() for part in fold)) for fold in folds]
    found = cutoff_losses(y.cuda(), *on_device, backend=backend).cpu()
    torch.testing.assert_close(found, torch.from_numpy(sklearn_losses(*problem)), rtol=1e-10, atol=0)


@pytest.mark.parametrize("backend", ["cuda", "reference"], indirect=True)
@pytest.mark.parametrize(("k", "width"), [(2, 5), (9, 9), (16, 33), (40, 40), (57, 8)])
def test_local_ridge_errors_are_those_of_the_definition(backend, k, width):
    problem = x, query, rows, n_first, targets, strengths = make_neighbourhoods(k, width, (5, 130))
    targets = [(y.cuda(), y_test.cuda()) for y, y_test in targets]
    on_device = x.cuda(), query.cuda(), rows.cuda(), n_first, targets, strengths.cuda()
    found = local_ridge(*on_device, backend=backend).cpu()
    torch.testing.assert_close(found, torch.from_numpy(numpy_errors(*problem)), rtol=1e-10, atol=0)


def on_cpu(found):
    return type(found)(*(part.cpu() if torch.is_tensor(part) else on_cpu(part) for part in found))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("k", [2, 21, 40, 96])
def test_spectra_are_those_of_scipy(case, k):
    x, rows = make_rows(case, 70, k)
    check_spectra(on_cpu(gram_spectra(x.cuda(), rows.cuda(), k // 2, backend="cuda")), x, rows)


@pytest.mark.parametrize("k", [128, 165, 166, 260])
def test_spectra_of_a_cluster_or_of_the_reference_are_those_of_scipy(k):
    x, rows = make_rows("graded", 70, k)
    check_spectra(on_cpu(gram_spectra(x.cuda(), rows.cuda(), k // 2, backend="cuda")), x, rows, 1e-12)


@pytest.mark.parametrize("case", MATRICES)
@pytest.mark.parametrize(("n", "width"), [(1, 6), (10, 256), (17, 9), (64, 256), (150, 300)])
def test_decompositions_are_those_of_scipy(case, n, width):
    matrices = make_matrices(case, n, width)
    check_svd([part.cpu() for part in small_svd(matrices.cuda(), backend="cuda")], matrices, 1e-12)


def test_spectra_have_the_same_bits_in_a_graph():
    x, rows = (part.cuda() for part in make_rows("random", 70, 20, problems=2000))
    expected = gram_spectra(x, rows, 10, backend="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gram_spectra(x, rows, 10, backend="cuda")
    graph.replay()
    torch.cuda.synchronize()
    for part, again in zip(expected.tensors(), found.tensors(), strict=True):
        assert torch.equal(part, again)


@pytest.mark.parametrize("backend", ["cuda", "reference"], indirect=True)
@pytest.mark.parametrize("k", [5, 20, 64, 128, 300])
def test_local_errors_are_those_of_the_cpu(backend, k, monkeypatch):
    generator = torch.Generator().manual_seed(k)
    x, y = (torch.randn(700, width, dtype=torch.float64, generator=generator) for width in (48, 9))
    x[:20] = x[20:40]
    train, test = slice(0, 600), slice(600, None)
    expected = local_errors(x[train], x[test], [(y[train], y[test])], k)[0]
    monkeypatch.setenv("LATENTCMP_BACKEND", backend)
    found = local_errors(x[train].cuda(), x[test].cuda(), [(y[train].cuda(), y[test].cuda())], k)[0]
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-8, atol=0)


def test_the_drift_monitor_does_not_synchronise_before_compute():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh()).cuda()
    twin = deepcopy(model).cpu()
    probe, numbers = torch.randn(400, 4), torch.arange(400) % 3 + 1
    monitors = [DriftMonitor(net, "2", probe=probe, numbers=numbers, every=1) for net in (model, twin)]
    for net in (model, twin):
        torch.nn.init.eye_(net[0].weight)
    monitors[0].step(0)  # the first run loads libraries
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
        torch.cuda.set_sync_debug_mode("error")
        try:
            monitors[0].step(1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert not [event.name for event in trace.events() if "DtoH" in event.name]
    monitors[1].step(1)
    found, expected = (monitor.compute()[-1]["layers"]["2"] for monitor in monitors)
    assert found["gfre_to_reference"] == pytest.approx(expected["gfre_to_reference"], rel=1e-4)
    assert found["elements"].keys() == expected["elements"].keys()


@pytest.mark.parametrize("groups", [None, [row // 4 for row in range(600)]])
@pytest.mark.parametrize("limit", [10_000, 300])
def test_the_default_comparison_is_that_of_the_cpu(groups, limit):
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(600, 9, generator=generator)
    rows = {
        str(k): torch.tanh(latent @ torch.randn(9, width, generator=generator)) for k, width in enumerate((6, 16, 12))
    }
    options = {"groups": groups, "measures": ["gfre", "gfrd", "lfre", "linear_cka"], "local_train_rows": limit}
    expected = compare_features(rows, **options)
    found = compare_features({name: values.cuda() for name, values in rows.items()}, **options)
    for ours, theirs in zip(found.atoms.tables, expected.atoms.tables, strict=True):
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-7, atol=1e-8, msg=ours.measure)
    for ours, theirs in zip(found.gfre.summaries[0], expected.gfre.summaries[0], strict=True):
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-5, abs=1e-8)
