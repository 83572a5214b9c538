"""The kernels on CPU tensors (csrc/cpu/segment_cumulants.cpp) and CUDA tensors (csrc/cuda/segment_cumulants*.cu)."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from latentcmp._runtime import abi, native
from latentcmp.ops.segment_cumulants.reference import output_dtype

_HUGE = 1 << 22  # bytes


def segment_cumulants_cpu(x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool) -> tuple[Tensor, Tensor]:
    """Cumulants [n_systems, order, D] and, if requested, the residuals of the rounded means [n_systems, D]."""
    n_systems, columns, wide = ptr.size(0) - 1, x.size(1), output_dtype(x.dtype)
    out = empty((n_systems, order, columns), wide)
    left = empty((n_systems if residual else 0, columns), wide)
    x, ptr = native.unit_columns(x), ptr.contiguous()
    struct = segment_cumulants_struct(x, ptr, order, root)
    native.run("segment_cumulants", x.device, struct, out.data_ptr(), left.data_ptr() if residual else None)
    return out, left


def segment_cumulants_cuda(x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool) -> tuple[Tensor, Tensor]:
    """As `segment_cumulants_cpu`, on the current stream of x's device without host synchronisation."""
    n_systems, columns, wide = ptr.size(0) - 1, x.size(1), output_dtype(x.dtype)
    out = x.new_empty((n_systems, order, columns), dtype=wide)
    left = x.new_empty((n_systems if residual else 0, columns), dtype=wide)
    x, ptr = native.unit_columns(x), ptr.contiguous()
    struct = segment_cumulants_struct(x, ptr, order, root)
    size = native.library("cuda").lc_cuda_segment_cumulants_workspace(ctypes.byref(struct))
    workspace = x.new_empty(size, dtype=torch.uint8)
    pointers = out.data_ptr(), left.data_ptr() if residual else None, workspace.data_ptr()
    native.run("segment_cumulants", x.device, struct, *pointers)
    return out, left


def segment_cumulants_backward(
    grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool
) -> Tensor:
    """The cotangent [n_atoms, D] of x, in its dtype, from that of `out`; `residual` is the forward's."""
    on_cpu = x.device.type == "cpu"
    dx = empty((x.size(0), x.size(1)), x.dtype) if on_cpu else x.new_empty((x.size(0), x.size(1)))
    x, ptr, grad, out = native.unit_columns(x), ptr.contiguous(), grad.contiguous(), out.contiguous()
    residual = residual.contiguous()
    struct = segment_cumulants_struct(x, ptr, out.size(1), root)
    left = residual.data_ptr() if residual.size(0) else None
    pointers = grad.data_ptr(), out.data_ptr(), left, dx.data_ptr()
    native.run("segment_cumulants_backward", x.device, struct, *pointers)
    return dx


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised CPU tensor; a large one uses huge pages, because page faults take longer than the kernel."""
    tensor = torch.empty(shape, dtype=dtype)
    if tensor.nbytes >= _HUGE:
        native.library("cpu").lc_cpu_advise_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


def segment_cumulants_struct(x: Tensor, ptr: Tensor, order: int, root: bool) -> abi.LcSegmentCumulants:
    """The argument of the kernels; x must have unit column stride and ptr be contiguous."""
    return abi.LcSegmentCumulants(
        x.data_ptr(),
        ptr.data_ptr(),
        x.size(0),
        x.size(1),
        x.stride(0),
        ptr.size(0) - 1,
        abi.TYPES[x.dtype],
        order,
        root,
        torch.get_num_threads(),
        native.current_stream(x.device),
    )
