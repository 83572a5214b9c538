"""Operators on tensors; each lives in a folder of its own, its reference beside its kernels."""

from latentcmp.ops.centred_rows import write_centred_rows
from latentcmp.ops.local_factors import local_factors
from latentcmp.ops.local_ridge import FoldFit, local_losses
from latentcmp.ops.local_svd import local_svd
from latentcmp.ops.segment_cumulants import segment_cumulants

__all__ = ["FoldFit", "local_factors", "local_losses", "local_svd", "segment_cumulants", "write_centred_rows"]
