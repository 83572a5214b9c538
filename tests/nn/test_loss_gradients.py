"""Gradients of the losses: numerical derivatives, degenerate matrices, autocast, compilation."""

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentcmp.nn import CKALoss, CumulantPooling, ReconstructionLoss

from .loss_cases import VARIANTS, D, N, T, gradients, related, rows, variants


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (VARIANTS["linear"], 12),
        (VARIANTS["linear"], 4),
        (VARIANTS["local"], 10),
        (lambda: ReconstructionLoss(alpha=1e-2, n_local_points=3), 6),
        (VARIANTS["debiased CKA"], 8),
        (VARIANTS["CKA"], 5),
    ],
    ids=["primal", "dual", "local primal", "local dual", "debiased CKA", "CKA"],
)
def test_first_and_second_derivatives_are_those_of_the_value(make, n):
    x, y = (m.requires_grad_() for m in related(n))
    assert torch.autograd.gradcheck(make(), (x, y))
    assert torch.autograd.gradgradcheck(make(), (x, y))


@pytest.mark.parametrize("make", [ReconstructionLoss, CKALoss])
def test_derivatives_through_the_pooling(make):
    x, y = (m[:, :3].clone().requires_grad_() for m in related(12))
    ptr = torch.arange(0, 13, 3)
    loss = make(pooling=CumulantPooling(order=2))
    loss.alpha = 1e-2
    assert torch.autograd.gradcheck(loss, (x, y, ptr))
    assert torch.autograd.gradgradcheck(loss, (x, y, ptr))


def test_derivatives_through_the_running_map():
    x, y = (m.requires_grad_() for m in related(10))

    def after_another_batch(x: Tensor, y: Tensor) -> Tensor:
        loss = ReconstructionLoss(alpha=1e-2, momentum=0.3, widths=(D, T))
        loss(*related(seed=7))
        return loss(x, y)

    assert torch.autograd.gradcheck(after_another_batch, (x, y))
    assert torch.autograd.gradgradcheck(after_another_batch, (x, y))


@pytest.mark.parametrize(("detach", "stopped"), [("source", 1), ("target", 2)])
def test_gradients_stop_at_the_side_named(detach, stopped):
    x, y = related()
    x, y = x.requires_grad_(), y.requires_grad_()
    ReconstructionLoss(alpha=1e-2, detach=detach)(x, y).backward()
    free = ReconstructionLoss(alpha=1e-2)
    want = gradients(free, x, y)
    for at, matrix in ((1, x), (2, y)):
        assert (matrix.grad is None) == (at == stopped)
        if at != stopped:
            torch.testing.assert_close(matrix.grad, want[at])


def test_holding_the_map_changes_gradients_only_as_far_as_the_ridge_does():
    x, y = related(200)
    difference = {}
    for alpha in (1e-1, 1e-7):
        free = gradients(ReconstructionLoss(alpha=alpha), x, y)
        held = gradients(ReconstructionLoss(alpha=alpha, detach="map"), x, y)
        assert held[0] == free[0]
        difference[alpha] = max(((a - b).norm() / b.norm()).item() for a, b in zip(held[1:], free[1:], strict=True))
    assert difference[1e-1] > 1e-2
    assert difference[1e-7] < 1e-3


def test_gradient_descent_through_the_loss_teaches_a_student_to_rebuild_the_teacher():
    x, teacher = related(200)
    student = torch.nn.Sequential(torch.nn.Linear(D, 16), torch.nn.Tanh(), torch.nn.Linear(16, D)).double()
    loss = ReconstructionLoss(alpha=1e-4)
    optimiser = torch.optim.Adam(student.parameters(), lr=0.02)
    with torch.no_grad():
        before = loss(student(x), teacher)
    for _ in range(60):
        optimiser.zero_grad()
        loss(student(x), teacher).backward()
        optimiser.step()
    assert loss(student(x), teacher) < 0.7 * before


DEGENERATE: dict[str, Callable[[], Tensor]] = {
    "constant column": lambda: torch.cat([rows(N, D - 1), torch.full((N, 1), 1e3, dtype=torch.float64)], 1),
    "rank two": lambda: rows(N, 2) @ rows(2, D, 1),
    "repeated rows": lambda: rows(2).repeat(N // 2, 1),
    "one odd row": lambda: torch.zeros(N, D, dtype=torch.float64).index_fill(0, torch.tensor([3]), 5.0),
    "constant": lambda: torch.full((N, D), 0.1, dtype=torch.float64),
    "zero": lambda: torch.zeros(N, D, dtype=torch.float64),
    "huge": lambda: rows() * 1e30,
    "tiny": lambda: rows() * 1e-30,
    "float32": lambda: (rows(N, 2) @ rows(2, D, 1)).float(),
}


@variants
@pytest.mark.parametrize("alpha", [0.0, 1e-9])
@pytest.mark.parametrize("odd", DEGENERATE.values(), ids=DEGENERATE)
def test_values_and_gradients_are_finite_on_degenerate_rows(make, alpha, odd):
    loss = make()
    loss.alpha = alpha
    for pair in ((odd(), related()[1]), (related()[0], odd()[:, :T]), (odd(), odd()[:, :T])):
        for found in gradients(loss, *pair):
            assert torch.isfinite(found).all()


def test_second_derivatives_are_finite_at_equal_eigenvalues_and_at_rank_deficiency():
    for x in (torch.linalg.qr(rows(N, D)).Q, rows(N, 2) @ rows(2, D, 1)):
        x = x.requires_grad_()
        (slope,) = torch.autograd.grad(ReconstructionLoss()(x, related()[1]), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), x)
        assert torch.isfinite(curvature).all()


@variants
def test_autocast_does_not_touch_the_statistics(make):
    x, y = (m.float() for m in related())
    outside = gradients(make(), x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradients(make(), x, y)
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@variants
def test_a_gradient_scaler_takes_the_same_steps_and_leaves_out_one_that_overflows(make):
    x, y = (m.float() for m in related())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled, plain = Student(make(), scaler), Student(make())
    scaled.step(x, y)
    scaled.step(x.index_fill(0, torch.tensor([3]), torch.inf), y)
    assert scaler.get_scale() == 2.0**9
    scaled.step(x, y)
    for _ in range(2):
        plain.step(x, y)
    assert not torch.equal(plain.layer.weight, Student(make()).layer.weight)
    torch.testing.assert_close(scaled.state_dict(), plain.state_dict())


class Student(torch.nn.Module):
    """A layer that learns by a loss under autocast."""

    def __init__(self, loss: torch.nn.Module, scaler: torch.amp.GradScaler | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.loss = torch.nn.Linear(D, D), loss
        self.optimiser = torch.optim.SGD(self.parameters(), 0.1)
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)

    def step(self, x: Tensor, y: Tensor) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = self.loss(self.layer(x), y)
        self.optimiser.zero_grad()
        self.scaler.scale(value).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()


def test_low_precision_comes_back_in_float32_and_float64_in_float64():
    x, y = related()
    assert ReconstructionLoss()(x.bfloat16(), y.half()).dtype == torch.float32
    assert ReconstructionLoss()(x, y.float()).dtype == torch.float64


@variants
def test_compiles_into_one_graph(make):
    torch._dynamo.reset()
    x, y = (m.float() for m in related())
    loss = make()
    compiled = torch.compile(make(), fullgraph=True, backend="aot_eager")
    for _ in range(3):
        for a, b in zip(gradients(compiled, x, y), gradients(loss, x, y), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++ on a CPU")
@pytest.mark.parametrize("make", [VARIANTS["linear"], VARIANTS["debiased CKA"]], ids=["reconstruction", "CKA"])
def test_inductor_gives_the_same_values_and_gradients(make):
    torch._dynamo.reset()
    x, y = (m.float() for m in related())
    compiled = torch.compile(make(), fullgraph=True)
    torch.testing.assert_close(gradients(compiled, x, y), gradients(make(), x, y))


def test_compiles_with_pooling():
    torch._dynamo.reset()
    x, y = (m.float() for m in related())
    ptr = torch.arange(0, N + 1, 4)
    loss = ReconstructionLoss(alpha=1e-2, pooling=CumulantPooling(order=2))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, y, ptr), loss(x, y, ptr))
