"""A small network to watch, and ways to move and look into it."""

import math

import torch
from torch import nn

import latentcmp

N = 400


def make(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 1))


def probe() -> torch.Tensor:
    return torch.randn(N, 5, generator=torch.Generator().manual_seed(1))


def shaken(model: nn.Module, size: float = 0.3) -> None:
    """Move every weight, as a training would."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            value += size * torch.randn(value.shape, generator=generator)


def hidden(model: nn.Module, layer: str = "3", x: torch.Tensor | None = None) -> torch.Tensor:
    with latentcmp.tap(model, layer) as taps:
        model(probe() if x is None else x)
    return taps[layer]


def finite(record: dict) -> bool:
    return all(math.isfinite(record[name]) for name in ("gfre_to_reference", "linear_cka", "effective_rank"))
