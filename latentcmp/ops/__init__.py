"""Operators on tensors; each lives in a folder of its own, its reference beside its kernels."""

from latentcmp.ops.centred_rows import centred_rows
from latentcmp.ops.cutoff_losses import FoldFit, cutoff_losses
from latentcmp.ops.gram_spectra import gram_spectra
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.ops.small_svd import small_svd

__all__ = ["FoldFit", "centred_rows", "cutoff_losses", "gram_spectra", "segment_cumulants", "small_svd"]
