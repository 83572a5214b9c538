"""The default comparison on the built-in set holds still: noise, order, batches and the seed of the split."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.noise import perturbed_copy
from latentcmp.comparison.result import Comparison
from latentcmp.features.data import Features
from latentcmp.systems.builtin import builtin_systems
from latentcmp.systems.system import System

pytestmark = pytest.mark.slow
MODELS = CompareConfig.of().models
SEEDS = range(5)


def extracted(systems: Sequence[System], batch_atoms: int) -> list[Features]:
    return [latentcmp.extract(model, systems, device="cpu", batch_atoms=batch_atoms) for model in MODELS]


def compared(features: Sequence[Features], seed: int = 0, baselines: str = "none") -> Comparison:
    return latentcmp.compare(features, order=1, seed=seed, baselines=baselines)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def features(all_models: None) -> list[Features]:
    return extracted(builtin_systems(), 64)


@pytest.fixture(scope="module")
def found(features: list[Features]) -> Comparison:
    return compared(features, baselines="default")


def test_noise_of_positions_order_and_batches_move_no_cell(found: Comparison) -> None:
    """Positions + 1e-6 Angstrom, which also renames all contents, atoms permuted, files reversed, other batches."""
    copies = [perturbed_copy(system)[0] for system in reversed(builtin_systems())]
    moved = compared(extracted(copies, 48))
    for measure in ("gfre", "lfre"):
        for level in ("atoms", "structures"):
            before, after = (getattr(of, level).pairs(measure).values for of in (found, moved))
            torch.testing.assert_close(after, before, rtol=0, atol=0.005, msg=f"{measure} between {level}")


def test_errors_hold_still_over_seeds_of_the_split(features: list[Features], found: Comparison) -> None:
    runs = [found, *(compared(features, seed) for seed in SEEDS if seed)]
    for measure in ("gfre", "lfre"):
        cells = np.stack([run.atoms.pairs(measure).values.numpy() for run in runs])
        off = cells[:, ~np.eye(len(MODELS), dtype=bool)]
        assert off.mean(1).std(ddof=1) < 0.03, measure
        assert off.std(0, ddof=1).max() < 0.08, measure
        assert off.max() < 1.1, measure


def test_no_structure_determines_a_matrix(found: Comparison) -> None:
    for level in (found.atoms, found.structures):
        assert level is not None
        assert min(share.effective for share in level.context.variance.values()) > 30


def test_permuted_rows_are_the_mean(found: Comparison) -> None:
    permuted = found.atoms.context.baselines["gfre"].values["permuted rows"]
    assert all(0.98 <= value <= 1.05 for value in permuted), permuted
