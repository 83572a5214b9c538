"""Joint statistics within the memory they are given."""

from pathlib import Path

import pytest
import torch

import latentcmp
from latentcmp.comparison.memory import affordable, available, needed
from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.systems.group_folds import GroupFolds
from latentcmp.systems.system import SystemRecord

FOLDS = GroupFolds.of(100)
N = 60


def features(name: str, seed: int) -> Features:
    values = torch.randn(5 * N, 8, generator=torch.Generator().manual_seed(seed))
    records = [SystemRecord(f"s{i}", 5, f"s{i}") for i in range(N)]
    ptr, numbers = torch.arange(0, 5 * N + 1, 5), torch.arange(5 * N) % 5 + 6
    return Features(values, ptr, [of.id for of in records], numbers, {"name": name, "layer": "last"}, records)


def test_blocks_are_given_up_before_folds() -> None:
    assert affordable(FOLDS, 100, needed(100, 20), "atoms") == FOLDS
    assert affordable(FOLDS, 100, needed(100, 20) - 1, "atoms").fold_of_block == (0, 1, 2, 3, 4)
    with pytest.raises(InputError, match=r"statistics of 2,000 columns between structures need 0.5 GB, but 0.1 GB may"):
        affordable(FOLDS, 2000, 10**8, "structures")


def test_half_of_the_free_memory_is_available() -> None:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert 0 < available() <= int(lines["MemTotal"].split()[0]) * 512


def test_with_less_memory_errors_are_the_same_and_intervals_say_what_they_are() -> None:
    models = [features("a", 0), features("b", 1)]
    options = {"order": 2, "measures": ("gfre",)}
    whole = latentcmp.compare(models, **options)  # type: ignore[arg-type]
    columns = 2 * 2 * 8
    tight = latentcmp.compare(models, **options, memory=needed(columns, 10) / 1e9)  # type: ignore[arg-type]
    assert whole.structures is not None
    assert tight.structures is not None
    torch.testing.assert_close(tight.structures.gfre.values, whole.structures.gfre.values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tight.gfre.values, whole.gfre.values, rtol=1e-12, atol=1e-12)
    assert tight.gfre.summaries[0][1].low == pytest.approx(whole.gfre.summaries[0][1].low, rel=1e-9)
    assert tight.structures.gfre.summaries[0][1].low != whole.structures.gfre.summaries[0][1].low
    assert any("hold the maps fixed" in line for line in tight.structures.context.warnings)
    assert not any("hold the maps fixed" in line for line in tight.atoms.context.warnings)
    assert not tight.structures.context.learning_curve
