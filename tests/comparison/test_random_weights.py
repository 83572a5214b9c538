"""The baseline of random weights and the noise on all structures, which `baselines="full"` adds."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from rich.console import Console
from torch import nn

import latentcmp
from latentcmp._runtime.progress import Timing
from latentcmp.cli.tables import show_comparison
from latentcmp.comparison.accumulate import accumulate
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.noise import FeatureNoise, noise_of
from latentcmp.comparison.result import Comparison
from latentcmp.comparison.run import finish, prepare
from latentcmp.comparison.shards import Shard, merged, pack, unpack
from latentcmp.errors import InputError, ModelError
from latentcmp.measures.pairs import default_local_grid
from latentcmp.measures.strength_search import default_strengths
from latentcmp.models import Adapter, load
from latentcmp.models.forward import run_layers
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.systems.read import read_systems
from latentcmp.systems.split import split_into_folds
from latentcmp.systems.system import System, in_canonical_order, offsets

from ..measures.fold_cases import local_row_squares, row_squares
from ..monitor.drift_rank import Toy, toy
from ..monitor.drift_rank import structures as made_up

RANDOM = "random weights"
FULL: dict[str, Any] = {"baselines": "full", "order": 2, "batch_atoms": 12, "device": "cpu"}


class Again(Toy):
    """A toy that can be constructed anew."""

    def constructed_anew(self) -> Adapter:
        return Again(self.card, nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), self.device)


def again(name: str = "toy") -> Again:
    model = toy()
    return Again(replace(model.card, name=name), model.module, model.device)


def fixed() -> Adapter:
    """A model of another name and other weights, which cannot be constructed anew."""
    other = toy()
    with torch.no_grad():
        for value in other.module.parameters():
            value += 0.5
    return Toy(replace(other.card, name="fixed"), other.module, other.device)


@pytest.fixture(scope="module")
def many() -> list[Atoms]:
    """More structures than the default probe has."""
    return made_up(np.random.default_rng(5).integers(3, 12, 100).tolist())


@pytest.fixture(scope="module")
def full(many: list[Atoms]) -> Comparison:
    return latentcmp.compare([again(), fixed()], many, **FULL)


def rows(adapter: Adapter, systems: Sequence[System], structures: bool = False) -> np.ndarray:
    """Features of the last layer, or cumulant descriptors of order 2."""
    values = run_layers(adapter, ["last"], systems)["last"].double()
    if structures:
        values = segment_cumulants(values, torch.from_numpy(offsets(systems)), 2, root=True).flatten(1)
    return values.numpy()


def expected(adapter: Adapter, given: list[Atoms], measure: str, structures: bool = False) -> float:
    """The mean over three seeds of the error from random weights to the model, written out."""
    systems = in_canonical_order(read_systems(given))
    split = split_into_folds(systems)
    assert split.folds
    fold = np.array(split.folds.fold_of_block)[split.systems if structures else split.atoms]
    target, errors = rows(adapter, systems, structures), []
    for seed in range(3):
        random = adapter.with_random_weights(seed)
        assert random is not None
        x = rows(random, systems, structures)
        if measure == "gfre":
            squares = row_squares(x, target, fold, default_strengths(), "ridge")
        else:
            squares = local_row_squares(x, target, fold, default_local_grid("ridge"), min(x.shape[1], 64))
        errors.append(squares.mean() ** 0.5)
    return float(np.mean(errors))


@pytest.mark.parametrize("measure", ["gfre", "lfre"])
@pytest.mark.parametrize("level", ["atoms", "structures"])
def test_the_row_is_the_mean_of_errors_written_out(
    full: Comparison, many: list[Atoms], level: str, measure: str
) -> None:
    beside = getattr(full, level).context.baselines[measure]
    # The features are in single precision, whose last bits depend on the batch.
    assert beside.values[RANDOM][0] == pytest.approx(expected(again(), many, measure, level == "structures"), rel=1e-4)
    assert 0 < beside.medians[RANDOM][0] < beside.values[RANDOM][0]


def test_loaded_models_have_the_baseline_of_coordination_too(full: Comparison) -> None:
    assert full.atoms.context.baselines["gfre"].values["element + coordination"][0] < 1
    assert "composition + coordination" in full.structures.context.baselines["lfre"].values


def test_a_target_without_it_is_blank_and_noted(full: Comparison, tmp_path: Path) -> None:
    beside = full.atoms.context.baselines["gfre"]
    assert np.isnan([beside.values[RANDOM][1], beside.medians[RANDOM][1]]).all()
    note = "no baseline of random weights for fixed: stored features have no model to run"
    assert [line for line in full.atoms.context.warnings if line.startswith(note)]
    assert not [line for line in full.structures.context.warnings if line.startswith(note)]
    full.save(tmp_path)
    row = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)["atoms"]["baselines"]
    assert row["gfre"][RANDOM]["value"] == [beside.values[RANDOM][0], None]
    assert row["gfre"][RANDOM]["median"] == [beside.medians[RANDOM][0], None]
    assert f"gfre,{RANDOM},toy,{beside.values[RANDOM][0]}," in (tmp_path / "baselines.csv").read_text()
    axis = full.plot().axes[0]
    assert RANDOM in [tick.get_text() for tick in axis.get_yticklabels()]
    assert "-" in [text.get_text() for text in axis.texts]
    assert f"{RANDOM} {beside.values[RANDOM][0]:.3f} -" in " ".join(shown(full).split())


def shown(comparison: Comparison) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        show_comparison(console, comparison)
    return capture.get()


def test_noise_is_that_of_all_structures(full: Comparison, many: list[Atoms]) -> None:
    systems = in_canonical_order(read_systems(many))
    features = {"x": run_layers(again(), ["last"], systems, batch_atoms=12)["last"]}
    noise = FeatureNoise(noise_of(again(), {"x": "last"}, systems, features, 12))
    spread = float(features["x"].double().var(0, correction=0).sum().sqrt())
    beside = full.atoms.context.baselines["gfre"].values["noise"]
    assert beside[0] == pytest.approx(noise.rms("x") / spread, rel=0.02)  # of rounding in other batches
    default = latentcmp.compare(again(), many, **FULL | {"baselines": "default"})
    assert default.atoms.context.baselines["gfre"].values["noise"][0] != pytest.approx(beside[0], rel=0.02)


def test_by_default_there_is_no_run_with_random_weights(many: list[Atoms], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Again, "with_random_weights", lambda self, seed: pytest.fail("was constructed"))
    for options in ({"baselines": "default"}, {"baselines": "none"}, {"preset": "chorna2025"}):
        found = latentcmp.compare(again(), many, **FULL | options)
        for level in (found.atoms, found.structures):
            assert all(RANDOM not in beside.values for beside in level.context.baselines.values())
            assert not [line for line in level.context.warnings if RANDOM in line]
        assert found.manifest["random_weights"] == []
        assert RANDOM not in shown(found)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_have_the_bits_of_one_process(full: Comparison, many: list[Atoms], count: int) -> None:
    models = {"toy": again(), "fixed": fixed()}
    config = CompareConfig.of(models=tuple(models), **FULL)
    plan, sources = prepare(config, many, Timing(), models)
    assert len(plan.blocks) > 10
    whole = None
    for number in range(count, 0, -1):
        part = accumulate(plan, sources, Shard(number, count).blocks(len(plan.blocks)), Timing())
        tensors, metadata = pack(plan.manifest, part)
        whole = merged(whole, unpack(tensors, json.loads(json.dumps(metadata))))
    assert whole is not None
    found = finish(whole, Timing())
    assert numbers(found) == numbers(full)


def numbers(comparison: Comparison) -> str:
    """Everything but the times and the limit of the memory."""
    return json.dumps({key: value for key, value in comparison.to_dict().items() if key != "timing"}, sort_keys=True)


def test_progress_of_random_weights_is_counted_apart(many: list[Atoms]) -> None:
    last: dict[str, tuple[int, int]] = {}
    latentcmp.compare(again(), many, **FULL, progress=lambda label, *done: last.update({label: done}))
    n_atoms = sum(map(len, many))
    assert last["toy"] == (n_atoms, n_atoms)
    assert last["toy, random weights"] == (3 * n_atoms, 3 * n_atoms)


def test_a_label_that_is_the_name_of_a_baseline_is_refused(many: list[Atoms]) -> None:
    for name in ("(random 2) toy", "(coordination)"):
        with pytest.raises(InputError, match=r"'\(.*' is the name of a baseline; give the features another name"):
            latentcmp.compare([again(), again(name)], many, **FULL)


def test_a_package_that_fails_is_named(many: list[Atoms]) -> None:
    class Broken(Again):
        def constructed_anew(self) -> Adapter:
            raise KeyError("width")

    model = toy()
    with pytest.raises(ModelError, match="toy cannot be constructed with random weights: KeyError: 'width'"):
        latentcmp.compare(Broken(model.card, model.module, model.device), many, **FULL)


def test_features_with_random_weights_that_are_not_finite_are_named(many: list[Atoms]) -> None:
    class Far(Again):
        def constructed_anew(self) -> Adapter:
            model = super().constructed_anew()
            nn.init.constant_(model.module[0].weight, torch.nan)  # type: ignore[index, arg-type]
            return model

    model = toy()
    with pytest.raises(InputError, match="toy with random weights gives a NaN or an infinity"):
        latentcmp.compare(Far(model.card, model.module, model.device), many, **FULL)


def test_real_models_have_the_row(all_models: None, structures: list[Atoms]) -> None:
    given = structures[-24:]
    options = {**FULL, "batch_atoms": None, "order": 1, "measures": ["gfre"]}
    found = latentcmp.compare(["chgnet-0.3.0", "diep"], given, **options)
    assert found.manifest["random_weights"] == ["chgnet-0.3.0", "diep"]
    for place, name in enumerate(found.models):
        beside = found.atoms.context.baselines["gfre"].values[RANDOM][place]
        # Directions of the features that are below single precision are damped by ridge, not left out.
        assert beside == pytest.approx(expected(load(name), given, "gfre"), rel=1e-4)
        assert beside > found.gfre[name, name]
        assert found.structures.context.baselines["gfre"].values[RANDOM][place] > 0
