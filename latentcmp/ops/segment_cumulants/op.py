"""torch.library operators: schemas, what they return without data, and the way to each backend's kernels.

No autograd is registered here: ops with registered autograd give zero forward-mode tangents without a word.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor

from latentcmp.ops.segment_cumulants.reference import (
    output_dtype,
    segment_cumulants_reference,
    segment_gradient_reference,
)
from latentcmp.ops.segments import check_ptr

_FOLDER = "latentcmp.ops.segment_cumulants"
_KERNELS = {
    "cpu": (f"{_FOLDER}.native:cumulants_cpu", f"{_FOLDER}.native:gradient_cpu"),
    "cuda": (f"{_FOLDER}.native:cumulants_cuda", f"{_FOLDER}.native:gradient_cuda"),
    "triton": (f"{_FOLDER}.triton_kernel:cumulants_triton", f"{_FOLDER}.triton_gradient:gradient_triton"),
}

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
    return _kernel(backend, 0)(x, ptr, order, root, residual)


@torch.library.impl("latentcmp::segment_cumulants_backward", ("CPU", "CUDA"))
def _backward(grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool, backend: str) -> Tensor:
    if backend == "reference":
        return segment_gradient_reference(grad, x, ptr, out.size(1), root)
    return _kernel(backend, 1)(grad, x, ptr, out, residual, root)


@torch.library.register_fake("latentcmp::segment_cumulants")
def _forward_fake(
    x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool, backend: str
) -> tuple[Tensor, Tensor]:
    n_systems, columns, wide = ptr.size(0) - 1, x.size(1), output_dtype(x.dtype)
    kept = residual and backend != "reference"
    out = x.new_empty((n_systems, order, columns), dtype=wide)
    return out, x.new_empty((n_systems if kept else 0, columns), dtype=wide)


@torch.library.register_fake("latentcmp::segment_cumulants_backward")
def _backward_fake(
    grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool, backend: str
) -> Tensor:
    return x.new_empty(x.shape)


def double_backward(
    cotangent: Tensor, grad: Tensor, x: Tensor, ptr: Tensor, root: bool, create_graph: bool
) -> tuple[Tensor, Tensor]:
    """Cotangents of grad and x, from that of the gradient: autograd through the reference, to any order.

    Args:
        cotangent: [n_atoms, D], of dx. grad: [n_systems, order, D]. x: [n_atoms, D]. ptr: [n_systems + 1].
    """
    with torch.enable_grad():
        if not create_graph:
            grad, x = grad.detach().requires_grad_(), x.detach().requires_grad_()
        else:  # views, so that the graph runs on from here to what the caller differentiates by
            grad, x = grad.view_as(grad), x.view_as(x)
        if x.numel() == 0:
            return torch.zeros_like(grad), torch.zeros_like(x)
        out = segment_cumulants_reference(x, ptr, grad.size(1), root)
        (dx,) = torch.autograd.grad(out, x, grad.to(out.dtype), create_graph=True)
        found = torch.autograd.grad(dx, (grad, x), cotangent, create_graph=create_graph, allow_unused=True)
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, (grad, x), strict=True))  # type: ignore[return-value]


def _kernel(backend: str, which: int) -> Callable:
    module, name = _KERNELS[backend][which].split(":")
    return getattr(import_module(module), name)


def _no_residual(x: Tensor) -> Tensor:
    return x.new_empty((0, x.size(1)), dtype=output_dtype(x.dtype))


def _check_contents(ptr: Tensor, x: Tensor, backend: str) -> None:
    """The C++ kernels look for themselves; on an accelerator looking costs a sync and has to be asked for."""
    unseen = backend != "cpu" if x.device.type == "cpu" else os.environ.get("LATENTCMP_CHECK") == "1"
    if unseen:
        check_ptr(ptr, x.size(0))
