"""Operators on tensors, each in a folder with its reference, its kernels and its schema."""

from latentcmp.ops.centred_rows import centred_rows
from latentcmp.ops.cutoff_losses import FoldFit, cutoff_losses
from latentcmp.ops.gram_spectra import GramSpectra, gram_spectra
from latentcmp.ops.local_ridge import local_ridge
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.ops.small_svd import small_svd

__all__ = [
    "FoldFit",
    "GramSpectra",
    "centred_rows",
    "cutoff_losses",
    "gram_spectra",
    "local_ridge",
    "segment_cumulants",
    "small_svd",
]
