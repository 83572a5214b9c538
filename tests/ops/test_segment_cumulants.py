"""Every backend of segment_cumulants that runs on the CPU, against scipy, the reference and exact cases."""

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.ops.segment_cumulants.reference import segment_cumulants_reference, segment_gradient_reference

from .segment_cumulants_cases import make_case, scipy_cumulants

RAGGED = [3, 0, 17, 1, 64, 65, 130, 2048, 2049, 5000, 0, 2]
WIDTHS = [1, 7, 16, 17, 64, 130, 300]


def relative_error(got, want):
    """The largest error of each order over the largest magnitude of that order."""
    error = (got.double() - want).abs().amax((0, 2))
    return (error / want.abs().amax((0, 2)).clamp(min=1e-300)).max()


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("order", [1, 4, 6, 8])
def test_agrees_with_scipy_in_float64(backend, columns, order):
    x, ptr = make_case(RAGGED, columns, mean=3.0)
    got = segment_cumulants(x, ptr, order, backend=backend)
    assert relative_error(got, scipy_cumulants(x, ptr, order)) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("columns", WIDTHS)
def test_narrow_types_agree_with_scipy(backend, columns, dtype):
    x, ptr = make_case(RAGGED, columns, dtype=dtype)
    got = segment_cumulants(x, ptr, 8, backend=backend)
    assert got.dtype == torch.float32
    assert relative_error(got, scipy_cumulants(x, ptr, 8)) < 3e-6


def test_more_columns_than_a_panel(backend):
    x, ptr = make_case([3, 70, 1], 2300, dtype=torch.float32)
    got = segment_cumulants(x, ptr, 4, backend=backend)
    assert relative_error(got, scipy_cumulants(x, ptr, 4)) < 3e-6


@pytest.mark.parametrize("scale", [1e-5, 1e4])
def test_eighth_roots_of_small_and_large_values_in_float32(backend, scale):
    x, ptr = make_case([40, 5000], 20)
    want = segment_cumulants_reference(x * scale, ptr, 8, root=True)
    got = segment_cumulants((x * scale).float(), ptr, 8, root=True, backend=backend)
    assert (got / scale - want / scale).abs().max() < 2e-4


def test_a_mean_of_a_million_deviations_does_not_reduce_the_accuracy(backend):
    x, ptr = make_case([30_000, 33, 7], 20, mean=1.4e6, dtype=torch.float32)
    got, want = segment_cumulants(x, ptr, 4, backend=backend).double(), scipy_cumulants(x, ptr, 4)
    for m in (2, 3, 4):
        assert ((got - want)[:, m - 1].abs() / want[:, 1].sqrt() ** m).max() < 1e-5


def test_sorted_rows_and_an_outlier_do_not_reduce_the_accuracy(backend):
    x, ptr = make_case([30_000], 20, dtype=torch.float32)
    x = x.sort(0).values
    x[0] += 200.0
    got, want = segment_cumulants(x, ptr, 4, backend=backend).double(), scipy_cumulants(x, ptr, 4)
    torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_constant_columns_give_exactly_zero(backend, dtype):
    x = torch.tensor([0.1, 1e6, -3.3e-3] * 7, dtype=torch.float64).clamp(max=6e4).to(dtype).expand(5101, -1)
    got = segment_cumulants(x, torch.tensor([0, 33, 34, 101, 5101]), 8, backend=backend)
    assert torch.equal(got[:, 0], x[:4].to(got.dtype))
    assert torch.count_nonzero(got[:, 1:]) == 0


def test_short_and_empty_segments(backend):
    x, ptr = make_case([0, 1, 0, 0, 2, 1, 0], 37, dtype=torch.float32)
    got = segment_cumulants(x, ptr, 4, backend=backend)
    assert torch.count_nonzero(got[[0, 2, 3, 6]]) == 0
    assert torch.equal(got[[1, 5], 0], x[[0, 3]])
    assert torch.count_nonzero(got[[1, 5], 1:]) == 0


@pytest.mark.parametrize(("n_atoms", "columns", "ptr"), [(0, 5, [0]), (0, 5, [0, 0, 0]), (4, 0, [0, 4])])
def test_empty_input_gives_zeros_and_a_gradient(backend, n_atoms, columns, ptr):
    x = torch.zeros(n_atoms, columns, requires_grad=True)
    got = segment_cumulants(x, torch.tensor(ptr), 3, backend=backend)
    assert got.shape == (len(ptr) - 1, 3, columns)
    got.sum().backward()
    assert x.grad.shape == x.shape


def test_nan_and_inf_affect_their_segment_and_column_only(backend):
    x, ptr = make_case([4, 4, 70, 3000], columns=40, dtype=torch.float32)
    x.requires_grad_()
    clean = segment_cumulants(x, ptr, 4, backend=backend)
    (slope,) = torch.autograd.grad(clean.sum(), x)
    with torch.no_grad():
        x[5, 1], x[70, 2], x[2000, 39] = float("nan"), float("inf"), float("-inf")
    got = segment_cumulants(x, ptr, 4, backend=backend)
    touched = torch.zeros(4, 40, dtype=torch.bool)
    touched[1, 1] = touched[2, 2] = touched[3, 39] = True
    assert torch.equal(got.isfinite().all(1), ~touched)
    (found,) = torch.autograd.grad(got.sum(), x)
    where = ~touched.repeat_interleave(ptr.diff(), 0)
    assert torch.equal(got.mT[~touched], clean.mT[~touched])
    assert torch.equal(found[where], slope[where])


def test_every_element_of_the_output_is_written(backend, monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(float("nan")))
    for columns in WIDTHS:
        x, ptr = make_case(RAGGED, columns, dtype=torch.float32)
        x.requires_grad_()
        got = segment_cumulants(x, ptr, 3, backend=backend)
        assert got.isfinite().all()
        assert torch.autograd.grad(got.sum(), x)[0].isfinite().all()


def test_strides_do_not_matter(backend):
    x, ptr = make_case(RAGGED, 24, dtype=torch.float32)
    want = segment_cumulants(x, ptr, 4, backend=backend)
    wide = torch.cat([x, x + 1], 1)[:, :24]
    for view in (x.t().contiguous().t(), torch.stack([x, x], 2)[..., 0], wide):
        assert torch.equal(segment_cumulants(view, ptr, 4, backend=backend), want)
    spread = torch.stack([ptr, ptr], 1)[:, 0]
    assert torch.equal(segment_cumulants(x, spread, 4, backend=backend), want)


def test_the_same_bits_for_any_number_of_threads_and_any_batch_composition(backend):
    x, ptr = make_case([*RAGGED, 9000], 70, dtype=torch.float32)
    x.requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2) if backend == "cpu" else (1, 1):
            torch.set_num_threads(threads)
            out = segment_cumulants(x, ptr, 4, backend=backend)
            found.append((out.detach(), torch.autograd.grad(out.square().sum(), x)[0]))
    finally:
        torch.set_num_threads(before)
    for out, slope in found[1:]:
        assert torch.equal(out, found[0][0])
        assert torch.equal(slope, found[0][1])
    if backend == "cpu":
        alone = segment_cumulants(x[-9000:], torch.tensor([0, 9000]), 4, backend=backend)
        assert torch.equal(alone[0], found[0][0][-1])


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("order", [1, 3, 4, 8])
def test_the_gradient_is_that_of_the_reference(backend, order, root):
    x, ptr = make_case(RAGGED, 19)
    grad = torch.randn(len(RAGGED), order, 19, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grad[torch.tensor(RAGGED) == 2, 2:] = 0  # odd cumulants of two rows are 0 up to rounding
    want = segment_gradient_reference(grad, x, ptr, order, root)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-5)):
        leaf = x.to(dtype).requires_grad_()
        out = segment_cumulants(leaf, ptr, order, root=root, backend=backend)
        (got,) = torch.autograd.grad(out, leaf, grad.to(dtype))
        rows = torch.tensor(RAGGED).clamp(min=1).repeat_interleave(ptr.diff())[:, None]
        assert ((got - want).abs() * rows).max() < tolerance * (want.abs() * rows).max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gradient_of_halves_is_rounded_once(backend, dtype):
    x, ptr = make_case([4, 70, 33], 21, dtype=dtype)
    leaf = x.clone().requires_grad_()
    (got,) = torch.autograd.grad(segment_cumulants(leaf, ptr, 4, backend=backend).sum(), leaf)
    want = segment_gradient_reference(torch.ones(3, 4, 21, dtype=torch.float64), x.double(), ptr, 4)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_the_gradient_at_a_mean_of_a_million_deviations(backend):
    x, ptr = make_case([40, 33], 20, mean=1.4e6, dtype=torch.float32)
    leaf = x.clone().requires_grad_()
    (got,) = torch.autograd.grad(segment_cumulants(leaf, ptr, 4, backend=backend).sum(), leaf)
    want = segment_gradient_reference(torch.ones(2, 4, 20, dtype=torch.float64), x.double(), ptr, 4)
    assert ((got - want).abs().max() / want.abs().max()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("root", [False, True])
def test_gradients_to_second_order(backend, root):
    x, ptr = make_case([4, 6, 0, 5], columns=3)
    x.requires_grad_()

    def pool(x):
        return segment_cumulants(x, ptr, 4, root=root, backend=backend)

    assert torch.autograd.gradcheck(pool, x, atol=1e-4 if root else 1e-6)
    assert torch.autograd.gradgradcheck(pool, x, atol=1e-3 if root else 1e-5, rtol=1e-3)


def test_second_and_third_derivatives_are_those_of_the_reference(backend):
    x, ptr = make_case([4, 60, 0, 5], columns=3)
    x.requires_grad_()
    derivatives = []
    for pool in (
        lambda x: segment_cumulants(x, ptr, 5, backend=backend),
        lambda x: segment_cumulants_reference(x, ptr, 5),
    ):
        value, found = pool(x).square().sum(), []
        for _ in range(3):
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            found.append(slope.detach())
            value = slope.square().sum()
        derivatives.append(found)
    for got, want in zip(*derivatives, strict=True):
        assert (got - want).abs().max() < 1e-10 * want.abs().max()


def test_forward_mode_raises_instead_of_giving_zero(backend):
    x, ptr = make_case([4, 6], columns=3)
    with pytest.raises(RuntimeError):
        torch.func.jvp(lambda x: segment_cumulants(x.requires_grad_(), ptr, 4, backend=backend), (x,), (x,))


def test_opcheck(backend):
    x, ptr = make_case([4, 0, 66], columns=20)
    ops = torch.ops.latentcmp
    out, residual = ops.segment_cumulants(x, ptr, 4, False, True, backend)
    grad = torch.ones((), dtype=out.dtype).expand_as(out)  # the cotangent of sum() has no strides
    torch.library.opcheck(ops.segment_cumulants.default, (x, ptr, 4, False, True, backend))
    torch.library.opcheck(ops.segment_cumulants_backward.default, (grad, x, ptr, out, residual, False, backend))


def test_compiles_into_one_graph_of_any_shape(backend):
    def loss(x, ptr):
        return segment_cumulants(x * 2, ptr, 4, root=True, backend=backend).sin()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for counts in ([4, 6, 0, 5], [70, 3]):
        x, ptr = make_case(counts, columns=len(counts))
        x.requires_grad_()
        got, want = compiled(x, ptr), loss(x, ptr)
        assert torch.equal(got, want)
        slope = [torch.autograd.grad(value.sum(), x)[0] for value in (got, want)]
        torch.testing.assert_close(*slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ptr", [[0, 2], [1, 3], [0, 3, 2, 3], [0, 9, 3], [-5, 3]])
def test_invalid_offsets_are_an_input_error(backend, ptr):
    with pytest.raises(InputError, match="ptr"):
        segment_cumulants(torch.zeros(3, 2), torch.tensor(ptr), backend=backend)
    compiled = torch.compile(segment_cumulants, backend="eager")
    with pytest.raises(InputError, match="ptr"):
        compiled(torch.zeros(3, 2), torch.tensor(ptr), backend=backend)


def test_a_backend_that_the_operator_does_not_have_is_an_input_error():
    x, ptr = torch.zeros(3, 2), torch.tensor([0, 3])
    with pytest.raises(InputError, match=r"no backend 'gpu'.*choose one of cpu, reference"):
        segment_cumulants(x, ptr, backend="gpu")
    with pytest.raises(InputError, match="no backend 'cuda' for cpu tensors"):
        segment_cumulants(x, ptr, backend="cuda")


def test_narrower_instruction_sets_agree(run_narrowed, tmp_path):
    x, ptr = make_case([*RAGGED, 300], 45, dtype=torch.float32)
    torch.save((x, ptr), tmp_path / "segments.pt")
    run_narrowed(
        "from latentcmp.ops import segment_cumulants\n"
        "torch.save(segment_cumulants(*torch.load('segments.pt'), 8, backend='cpu'), 'cumulants.pt')\n"
    )
    assert relative_error(torch.load(tmp_path / "cumulants.pt"), scipy_cumulants(x, ptr, 8)) < 3e-6


@pytest.mark.parametrize("columns", [3, 64])
def test_agrees_with_the_composition_of_torch_scatter(backend, columns):
    torch_scatter = pytest.importorskip("torch_scatter")
    x, ptr = make_case(RAGGED, columns, mean=2.0)
    x.requires_grad_()
    mean = torch_scatter.segment_csr(x, ptr, reduce="mean")
    centred = x - torch_scatter.gather_csr(mean, ptr)
    m2, m3, m4 = (torch_scatter.segment_csr(centred**j, ptr, reduce="mean") for j in (2, 3, 4))
    want = torch.stack([mean, m2, m3, m4 - 3 * m2**2], 1)
    got = segment_cumulants(x, ptr, 4, backend=backend)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-10)
    slopes = [torch.autograd.grad(value.square().sum(), x)[0] for value in (got, want)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
