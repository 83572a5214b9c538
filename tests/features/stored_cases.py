"""Features of no model, for tests of how features are kept."""

import numpy as np
import torch

from latentcmp.features.data import Features
from latentcmp.systems.system import SystemRecord

IDS = ["a", "文 [red]", "b/c:0", "d\udcff", "e", "f"]
COUNTS = [3, 1, 4, 2, 5, 2]


def features(seed: int = 0, width: int = 7, dtype: torch.dtype = torch.float32) -> Features:
    """Random rows of six systems, with names of any kind."""
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=(sum(COUNTS), width))).to(dtype)
    numbers = torch.from_numpy(np.random.default_rng(0).integers(1, 90, sum(COUNTS)))
    records = [
        SystemRecord(id, count, f"group {i // 2}", "odd" if i % 2 else "", f"{i:032x}")
        for i, (id, count) in enumerate(zip(IDS, COUNTS, strict=True))
    ]
    ptr = torch.tensor([0, *np.cumsum(COUNTS)])
    return Features(values, ptr, list(IDS), numbers, {"name": "none", "layer": "last"}, records)
