"""The noise probe: what it measures on a network written out in NumPy, and which real models it names."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch import Tensor

from latentcmp.comparison.noise import (
    FeatureNoise,
    StructureNoise,
    discontinuous,
    noise_of,
    perturbed_copy,
    probe_systems,
)
from latentcmp.errors import InputError
from latentcmp.models import load
from latentcmp.models.forward import run_layers
from latentcmp.systems.builtin import builtin_systems
from latentcmp.systems.read import read_systems
from latentcmp.systems.system import System, SystemRecord

from ..monitor.drift_rank import Toy, structures, toy

LAYERS = {"a label": "last"}


class Recorded(Toy):
    """A toy that records the number of atoms of every batch."""

    def energies(self, graphs: Sequence[Tensor]) -> Tensor:
        self.sizes.append(sum(map(len, graphs)))
        return super().energies(graphs)

    sizes: list[int]


def recorded() -> Recorded:
    model = toy()
    adapter = Recorded(model.card, model.module, model.device)
    adapter.sizes = []
    return adapter


def written_out(adapter: Toy, system: System) -> np.ndarray:
    """The last layer of the toy in float64."""
    linear: Any = adapter.module[0]  # type: ignore[index]
    weight, bias = (value.detach().double().numpy() for value in (linear.weight, linear.bias))
    return np.tanh(np.c_[system.atoms.positions, system.atoms.numbers] @ weight.T + bias)


def test_a_probe_depends_on_ids_alone() -> None:
    records = [SystemRecord(f"s{number}", 3) for number in range(200)] + [SystemRecord("d\udcff", 1)]
    probe = probe_systems(records, 20)
    assert [record.id for record in probe] == sorted((record.id for record in probe), key=lambda id: int(id[1:]))
    assert {record.id for record in probe_systems(records[::-1], 20)} == {record.id for record in probe}
    fewer = [record for record in records if record not in probe[:5]]
    assert set(probe[5:]) < set(probe_systems(fewer, 20))
    assert set(probe_systems(records, 20, seed=1)) != set(probe)
    assert probe_systems(records[:4], 20) == records[:4]
    with pytest.raises(InputError, match="n must be at least 1, got 0"):
        probe_systems(records, 0)


def test_a_copy_is_permuted_and_displaced_by_its_id() -> None:
    system = System("s", bulk("NaCl", "rocksalt", a=5.64).repeat(4), "group", "subset")
    copy, permutation = perturbed_copy(system)
    assert sorted(permutation.tolist()) == list(range(128)) != permutation.tolist()
    np.testing.assert_array_equal(copy.atoms.numbers, system.atoms.numbers[permutation])
    displacements = copy.atoms.positions - system.atoms.positions[permutation]
    assert displacements.std() == pytest.approx(1e-6, rel=0.2)
    assert np.abs(displacements).max() < 6e-6
    assert (copy.id, copy.group, copy.subset) == ("s", "group", "subset")
    np.testing.assert_array_equal(copy.atoms.cell, system.atoms.cell)
    again, _ = perturbed_copy(System("s", system.atoms, ""))
    np.testing.assert_array_equal(again.atoms.positions, copy.atoms.positions)
    other, _ = perturbed_copy(System("t", system.atoms, ""))
    assert not np.allclose(other.atoms.positions, copy.atoms.positions)


def test_the_noise_of_a_network_is_that_written_out() -> None:
    adapter, systems = recorded(), read_systems(structures())
    features = {"a label": run_layers(adapter, ["last"], systems)["last"]}
    result = noise_of(adapter, LAYERS, systems, features, scale=1e-2)["a label"]
    assert list(result) == [system.id for system in systems]
    for system in systems:
        copy, permutation = perturbed_copy(system, 1e-2)
        norms = np.linalg.norm(written_out(adapter, copy) - written_out(adapter, system)[permutation], axis=1)
        expected = (norms.max(), (norms**2).sum(), len(system))
        # The toy runs in single precision: 1e-7 of values near 1, in differences near 1e-3.
        assert result[system.id] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_the_order_of_the_atoms_is_restored_and_other_batches_are_run() -> None:
    adapter, systems = recorded(), read_systems(structures())
    features = {"a label": run_layers(adapter, ["last"], systems, batch_atoms=40)["last"]}
    first, adapter.sizes = adapter.sizes, []
    result = noise_of(adapter, LAYERS, systems, features, batch_atoms=40, scale=0.0)["a label"]
    assert max(noise.largest for noise in result.values()) < 1e-6
    assert max(adapter.sizes) <= 20 < max(first) <= 40
    adapter.sizes = []
    noise_of(adapter, LAYERS, systems, features, batch_atoms=1, scale=0.0)
    assert max(map(len, systems)) >= max(adapter.sizes) > 1


def test_features_that_do_not_fit_are_refused() -> None:
    adapter, systems = toy(), read_systems(structures([3, 4]))
    assert noise_of(adapter, LAYERS, [], {}) == {"a label": {}}
    for features in ({}, {"a label": torch.zeros(6, 8)}, {"a label": torch.zeros(7, 1)}):
        with pytest.raises(InputError, match=r"features of a label must be \(7, 8\) as of the model, got"):
            noise_of(adapter, LAYERS, systems, features)


def test_parts_of_a_probe_merge_by_union_and_survive_json() -> None:
    whole = {
        "a": {"x": (0.1, 0.3, 40), "y\udcff": (1 / 3, 1 / 7, 3)},
        "b": {"x": (0.0, 0.0, 40), "z": (2e-7, 1e-14, 1)},
    }
    first = FeatureNoise({"a": {"x": whole["a"]["x"]}, "b": {"z": whole["b"]["z"]}})
    second = FeatureNoise({"a": {"y\udcff": whole["a"]["y\udcff"]}, "b": {"x": whole["b"]["x"]}})
    first.merge(second)
    first.merge(second)
    assert first.compute() == {
        label: {id: StructureNoise(*value) for id, value in of.items()} for label, of in whole.items()
    }
    assert FeatureNoise(json.loads(json.dumps(first.metadata()))).compute() == first.compute()
    assert first.largest("a") == 1 / 3
    assert first.rms("a") == pytest.approx(np.sqrt((0.3 + 1 / 7) / 43), rel=1e-15)
    assert (first.largest("c"), first.rms("c")) == (0, 0)
    with pytest.raises(InputError, match="noise of structure 'x' in a came twice"):
        first.update({"a": {"x": (0.2, 0.3, 40)}})


def test_structures_beyond_the_threshold_are_named_the_largest_first() -> None:
    largest = {"small": 0.9e-3, "large": 0.5, "middle": 3e-3}
    noise = FeatureNoise({"a": {id: (value, 0.0, 1) for id, value in largest.items()}, "b": {"x": (1e-3, 0.0, 1)}})
    assert discontinuous(noise, {"a": 1.0, "b": 2.0}) == {"a": ["large", "middle"], "b": []}
    assert discontinuous(noise, {"a": 0.1, "b": 0.1}, threshold=2e-2) == {"a": ["large", "middle"], "b": []}
    assert discontinuous(noise, {"a": 0.8, "b": 0.8}) == {"a": ["large", "middle", "small"], "b": ["x"]}


@pytest.mark.parametrize(("name", "expected"), [("chgnet-0.3.0", []), ("diep", ["aflow/A3B_cI8_229_b_a/H3S"])])
def test_a_model_that_is_discontinuous_where_a_shell_lies_on_its_cutoff_is_named(
    all_models: None, name: str, expected: list[str]
) -> None:
    water = molecule("H2O", vacuum=6.0, pbc=True)
    sulphides = [s for s in builtin_systems() if s.subset.startswith("aflow") and {"S"} < set(s.atoms.symbols)]
    systems = [s for s in sulphides if len(s) <= 6] + [System("water", water, "")]
    adapter = load(name)
    features = {"a label": run_layers(adapter, ["last"], systems)["last"]}
    noise = FeatureNoise(noise_of(adapter, LAYERS, systems, features))
    spread = float(features["a label"].double().var(0, correction=0).sum().sqrt())
    assert noise.rms("a label") <= noise.largest("a label")
    assert discontinuous(noise, {"a label": spread}, 1e-2)["a label"] == expected
    assert noise.largest("a label") > 0
