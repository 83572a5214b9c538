"""The C++ kernels (csrc/cpu) on CPU tensors, the CUDA kernels (csrc/cuda) on CUDA tensors."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from latentcmp._runtime import native
from latentcmp.ops.segment_cumulants.reference import output_dtype

_HUGE = 1 << 22


def cumulants_cpu(x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool) -> tuple[Tensor, Tensor]:
    """Cumulants [n_systems, order, D] and, where asked for, what rounding left of the mean [n_systems, D]."""
    library = native.library("cpu")
    n_systems, columns, wide = ptr.size(0) - 1, x.size(1), output_dtype(x.dtype)
    out = empty((n_systems, order, columns), wide)
    left = empty((n_systems if residual else 0, columns), wide)
    x, ptr = _unit_columns(x), ptr.contiguous()
    segments = _segments(x, ptr, order, root)
    left_pointer = left.data_ptr() if residual else None
    code = library.lc_cpu_segment_cumulants(ctypes.byref(segments), out.data_ptr(), left_pointer)
    native.raise_for(code, "lc_cpu_segment_cumulants")
    return out, left


def gradient_cpu(grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool) -> Tensor:
    """The cotangent [n_atoms, D] of x, in its dtype, from that of ``out``; residual is the forward's."""
    library = native.library("cpu")
    dx = empty((x.size(0), x.size(1)), x.dtype)
    x, ptr, grad, out = _unit_columns(x), ptr.contiguous(), grad.contiguous(), out.contiguous()
    segments = _segments(x, ptr, out.size(1), root)
    left = residual.contiguous().data_ptr() if residual.size(0) else None
    code = library.lc_cpu_segment_cumulants_backward(
        ctypes.byref(segments), grad.data_ptr(), out.data_ptr(), left, dx.data_ptr()
    )
    native.raise_for(code, "lc_cpu_segment_cumulants_backward")
    return dx


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A fresh CPU tensor; a large one asks for huge pages, or faulting it in costs more than the kernel."""
    tensor = torch.empty(shape, dtype=dtype)
    if tensor.nbytes >= _HUGE:
        native.library("cpu").lc_cpu_advise_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


def cumulants_cuda(x: Tensor, ptr: Tensor, order: int, root: bool, residual: bool) -> tuple[Tensor, Tensor]:
    """As ``cumulants_cpu``, on the current stream of x's device; nothing is read back."""
    library = native.library("cuda")
    n_systems, columns, wide = ptr.size(0) - 1, x.size(1), output_dtype(x.dtype)
    out = x.new_empty((n_systems, order, columns), dtype=wide)
    left = x.new_empty((n_systems if residual else 0, columns), dtype=wide)
    x, ptr = _unit_columns(x), ptr.contiguous()
    segments = _segments(x, ptr, order, root)
    left_pointer = left.data_ptr() if residual else None
    with torch.cuda.device(x.device):
        workspace = x.new_empty(library.lc_cuda_segment_workspace(ctypes.byref(segments)), dtype=torch.uint8)
        code = library.lc_cuda_segment_cumulants(
            ctypes.byref(segments), out.data_ptr(), left_pointer, workspace.data_ptr()
        )
    native.raise_for(code, "lc_cuda_segment_cumulants", library)
    return out, left


def gradient_cuda(grad: Tensor, x: Tensor, ptr: Tensor, out: Tensor, residual: Tensor, root: bool) -> Tensor:
    """As ``gradient_cpu``, on the current stream of x's device."""
    library = native.library("cuda")
    dx = x.new_empty((x.size(0), x.size(1)))
    x, ptr, grad, out = _unit_columns(x), ptr.contiguous(), grad.contiguous(), out.contiguous()
    segments = _segments(x, ptr, out.size(1), root)
    left = residual.contiguous().data_ptr() if residual.size(0) else None
    with torch.cuda.device(x.device):
        code = library.lc_cuda_segment_cumulants_backward(
            ctypes.byref(segments), grad.data_ptr(), out.data_ptr(), left, dx.data_ptr()
        )
    native.raise_for(code, "lc_cuda_segment_cumulants_backward", library)
    return dx


def _unit_columns(x: Tensor) -> Tensor:
    """x itself where its rows are runs of memory, at any distance; else a contiguous copy."""
    return x if x.stride(1) == 1 and x.stride(0) >= 0 else x.contiguous()


def _segments(x: Tensor, ptr: Tensor, order: int, root: bool) -> native.SegmentsStruct:
    on_cuda = x.device.type == "cuda"
    stream = torch._C._cuda_getCurrentRawStream(x.device.index) if on_cuda else None
    return native.SegmentsStruct(
        x.data_ptr(),
        ptr.data_ptr(),
        x.size(0),
        x.size(1),
        x.stride(0),
        ptr.size(0) - 1,
        native.TYPES[x.dtype],
        order,
        root,
        torch.get_num_threads(),
        stream,
    )
