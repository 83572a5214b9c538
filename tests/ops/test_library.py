"""The operators in torch.library: opcheck, one graph under torch.compile, and fake tensors like real ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from latentcmp._runtime import backends
from latentcmp.ops import centred_rows, cutoff_losses, gram_spectra, local_ridge, segment_cumulants, small_svd
from latentcmp.ops.centred_rows.op import BACKENDS as CENTRED_ROWS
from latentcmp.ops.cutoff_losses.op import BACKENDS as CUTOFF_LOSSES
from latentcmp.ops.gram_spectra.op import BACKENDS as GRAM_SPECTRA
from latentcmp.ops.local_ridge.op import BACKENDS as LOCAL_RIDGE
from latentcmp.ops.segment_cumulants.op import BACKENDS as SEGMENT_CUMULANTS
from latentcmp.ops.small_svd.op import BACKENDS as SMALL_SVD

from .cutoff_losses_cases import make_problem
from .gram_spectra_cases import make_rows
from .local_ridge_cases import make_problem as make_neighbourhoods
from .segment_cumulants_cases import make_case
from .small_svd_cases import make_matrices

OFFERED = {
    "segment_cumulants": SEGMENT_CUMULANTS,
    "centred_rows": CENTRED_ROWS,
    "cutoff_losses": CUTOFF_LOSSES,
    "gram_spectra": GRAM_SPECTRA,
    "local_ridge": LOCAL_RIDGE,
    "small_svd": SMALL_SVD,
}
CALLS = [(name, backend) for name, offered in OFFERED.items() for backend in offered["cpu"]]


def rows_and_buffers(x: Tensor, rows: Tensor, centre: Tensor, **options: str) -> tuple[Tensor, Tensor]:
    """`centred_rows` into two parts of one block, as its callers use it."""
    block = torch.zeros(rows.shape[0], x.shape[1] + 2, dtype=torch.float64)
    out, squares = block[:, :-2], block[:, -1]
    centred_rows(x, rows, centre, out, squares, **options)
    return out * 2, squares + 1


def make_call(name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The public function (returning its results) and arguments for it."""
    if name == "segment_cumulants":
        return segment_cumulants, (*make_case([4, 0, 66], columns=20), 3)
    if name == "centred_rows":
        x = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
        return rows_and_buffers, (x, torch.arange(0, 40, 3), torch.linspace(0, 1, 7, dtype=torch.float64))
    if name == "cutoff_losses":
        return cutoff_losses, make_problem((5, 6), 7)[1:]
    if name == "gram_spectra":
        return gram_spectra, (*make_rows("random", 9, 12), 5)
    if name == "local_ridge":
        return local_ridge, make_neighbourhoods(9, 12, (5, 3))
    return small_svd, (make_matrices("random", 6, 11),)


def op_arguments(name: str) -> tuple[Any, ...]:
    """Arguments of the operator without the backend."""
    arguments = make_call(name)[1]
    if name == "segment_cumulants":
        return (*arguments, False, True)
    if name == "centred_rows":
        block = torch.zeros(len(arguments[1]), 10, dtype=torch.float64)
        return (*arguments, block[:, 1:8], block[:, 9].clone())
    if name == "local_ridge":
        x, query, rows, n_first, targets, strengths = arguments
        return x, query, rows, n_first, *([pair[side] for pair in targets] for side in (0, 1)), strengths
    return tuple(tree_leaves(arguments))


@pytest.fixture(params=CALLS, ids="-".join)
def call(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An operator and one of its backends on a CPU."""
    reason = backends.why_missing(request.param[1])
    if reason:
        pytest.skip(reason)
    return request.param


def test_opcheck(call: tuple[str, str]) -> None:
    name, backend = call
    operator = getattr(torch.ops.latentcmp, name).default
    torch.library.opcheck(operator, (*op_arguments(name), backend))


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_caller_compiles_into_one_graph_with_the_eager_result(call: tuple[str, str], dynamic: bool) -> None:
    name, backend = call
    function, arguments = make_call(name)

    def caller(*given: Any) -> list[Tensor]:
        return [result * 2 for result in tree_leaves(function(*given, backend=backend))]

    torch._dynamo.reset()
    compiled = torch.compile(caller, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    results, expected = compiled(*arguments), caller(*arguments)
    assert len(results) == len(expected) > 0
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))


@pytest.mark.parametrize("name", ["cutoff_losses", "gram_spectra", "local_ridge", "small_svd"])
def test_results_are_constants_for_autograd(name: str) -> None:
    function, arguments = make_call(name)
    differentiable = tree_map_only(Tensor, lambda x: x.requires_grad_(x.is_floating_point()), arguments)
    assert not any(part.requires_grad for part in tree_leaves(function(*differentiable)))


@pytest.mark.parametrize("empty", [False, True])
def test_fake_tensors_are_like_the_real_ones(call: tuple[str, str], empty: bool) -> None:
    name, backend = call
    function, arguments = make_call(name)
    if empty and name in ("cutoff_losses", "gram_spectra", "small_svd"):  # no problems: the batch dimension is 0
        batched = arguments if name == "small_svd" else arguments[1:]
        cut = tree_map_only(Tensor, lambda part: part[:0], batched)
        arguments = cut if name == "small_svd" else (arguments[0], *cut)
    if empty and name == "local_ridge":
        x, query, rows, n_first, targets, strengths = arguments
        arguments = x, query[:0], rows[:0], n_first, [(y, y_test[:0]) for y, y_test in targets], strengths
    real = tree_leaves(function(*arguments, backend=backend))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = tree_leaves(function(*tree_map_only(Tensor, mode.from_tensor, arguments), backend=backend))
    assert [describe(part) for part in fake] == [describe(part) for part in real]


def describe(part: Tensor) -> tuple[Any, ...]:
    return part.shape, part.dtype, part.device, part.stride() if part.numel() else ()


@pytest.mark.parametrize("name", ["cutoff_losses", "gram_spectra", "local_ridge", "small_svd"])
def test_the_cuda_backend_has_the_shapes_of_the_reference_on_fake_tensors(name: str) -> None:
    arguments = op_arguments(name)
    operator = getattr(torch.ops.latentcmp, name)
    real = operator(*arguments, "reference")
    with FakeTensorMode():
        on_gpu = tree_map_only(Tensor, lambda part: torch.empty(part.shape, dtype=part.dtype, device="cuda"), arguments)
        fake = operator(*on_gpu, "cuda")
    pairs = list(zip(tree_leaves(fake), tree_leaves(real), strict=True))
    assert all(part.shape == like.shape and part.dtype == like.dtype and part.is_cuda for part, like in pairs)
