"""The torch.library operators: schemas, fake kernels and the choice of the kernel.

No autograd is registered here: operators with registered autograd give zero forward-mode tangents silently.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from latentcmp.ops.segment_cumulants import native
from latentcmp.ops.segment_cumulants.reference import (
    output_dtype,
    segment_cumulants_reference,
    segment_gradient_reference,
)
from latentcmp.ops.segments import check_ptr

# cuda is preferred to triton because it is compiled before the first call; neither has been timed against the other.
BACKENDS = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}
"""By device type, the preferred one first."""

torch.library.define(
    "latentcmp::segment_cumulants",
    "(Tensor x, Tensor ptr, int order, bool root, bool residual, str backend) -> (Tensor, Tensor)",
)
torch.library.define(
    "latentcmp::segment_cumulants_backward",
    "(Tensor grad, Tensor x, Tensor ptr, Tensor out, Tensor residual, bool root, str backend) -> Tensor",
)


@torch.library.impl("latentcmp::segment_cumulants", ("CPU", "CUDA"))
def _forward(x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool, backend: str) -> tuple[Tensor, Tensor]:
    _check_contents(ptr, x, backend)
    if backend == "reference":
        with torch.no_grad():
            return segment_cumulants_reference(x, ptr, order, root), _no_residual(x)
    if backend == "triton":
        from latentcmp.ops.segment_cumulants.triton_kernel import segment_cumulants_triton

        return segment_cumulants_triton(x, ptr, order, root, residual)
    kernel = native.segment_cumulants_cpu if backend == "cpu" else native.segment_cumulants_cuda
    return kernel(x, ptr, order, root, residual)


@torch.library.impl("latentcmp::segment_cumulants_backward", ("CPU", "CUDA"))
def _backward(grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool, backend: str) -> Tensor:
    if backend == "reference":
        return segment_gradient_reference(grad, x, ptr, out.size(1), root)
    if backend == "triton":
        from latentcmp.ops.segment_cumulants.triton_gradient import segment_cumulants_backward_triton

        return segment_cumulants_backward_triton(grad, x, ptr, out, residual, root)
    return native.segment_cumulants_backward(grad, x, ptr, out, residual, root)


def _forward_fake(
    x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool, backend: str
) -> tuple[Tensor, Tensor]:
    n_systems, columns, wide = ptr.size(0) - 1, x.size(1), output_dtype(x.dtype)
    kept = residual and backend != "reference"
    out = x.new_empty((n_systems, order, columns), dtype=wide)
    return out, x.new_empty((n_systems if kept else 0, columns), dtype=wide)


def _backward_fake(
    grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool, backend: str
) -> Tensor:
    return x.new_empty(x.shape)


torch.library.register_fake("latentcmp::segment_cumulants", _forward_fake)
torch.library.register_fake("latentcmp::segment_cumulants_backward", _backward_fake)


def double_backward(
    cotangent: Tensor, grad: Tensor, x: Tensor, ptr: Tensor, root: bool, create_graph: bool
) -> tuple[Tensor, Tensor]:
    """Differentiate the gradient with autograd through the reference, to any order.

    Args:
        cotangent: [n_atoms, D], cotangent of dx.
        grad: [n_systems, order, D].
        x: [n_atoms, D].
        ptr: [n_systems + 1].
        root: as in the forward.
        create_graph: whether the results are differentiated again.

    Returns:
        The cotangents of grad and x.
    """
    with torch.enable_grad():
        if not create_graph:
            grad, x = grad.detach().requires_grad_(), x.detach().requires_grad_()
        else:  # views, so that the graph continues to the tensors that the caller differentiates with respect to
            grad, x = grad.view_as(grad), x.view_as(x)
        if x.numel() == 0:
            return torch.zeros_like(grad), torch.zeros_like(x)
        out = segment_cumulants_reference(x, ptr, grad.size(1), root)
        (dx,) = torch.autograd.grad(out, x, grad.to(out.dtype), create_graph=True)
        grad_grad, grad_x = torch.autograd.grad(dx, (grad, x), cotangent, create_graph=create_graph, allow_unused=True)
    return _or_zeros(grad_grad, grad), _or_zeros(grad_x, x)


def _or_zeros(value: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if value is None else value


def _no_residual(x: Tensor) -> Tensor:
    return x.new_empty((0, x.size(1)), dtype=output_dtype(x.dtype))


def _check_contents(ptr: Tensor, x: Tensor, backend: str) -> None:
    """Check ptr where the kernel does not; on an accelerator it synchronises, so only under LATENTCMP_CHECK=1."""
    unchecked = backend != "cpu" if x.device.type == "cpu" else os.environ.get("LATENTCMP_CHECK") == "1"
    if unchecked:
        check_ptr(ptr, x.size(0))
