"""Modules for models and training loops: cumulant pooling, and losses between feature matrices."""

from typing import Any

from latentcmp.nn import pooling
from latentcmp.nn.losses import CKALoss, ReconstructionLoss
from latentcmp.nn.pooling import CumulantPooling

__all__ = ["CKALoss", "CumulantPooling", "ReconstructionLoss"]  # and CumulantAggregation, made on first use


def __getattr__(name: str) -> Any:
    if name == "CumulantAggregation":
        return pooling.aggregation_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
