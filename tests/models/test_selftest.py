"""Every checkpoint against what was recorded of it."""

import pytest
import torch
from ase import Atoms
from torch import Tensor

from latentcmp.models.card import Adapter
from latentcmp.models.registry import cards, load, parse
from latentcmp.models.selftest import ENERGY_TOLERANCE, self_test


@pytest.mark.parametrize("name", cards())
def test_the_self_test_passes(all_models: None, name: str) -> None:
    checks = self_test(parse(name))
    assert len(checks) == 6
    assert not [(check.name, check.detail) for check in checks if not check.passed]


def failed(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.setattr("latentcmp.models.selftest.load", lambda spec, device, trust: adapter)
    return {check.name for check in self_test(parse(adapter.card.name)) if not check.passed}


def test_it_fails_for_other_weights(all_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = load("chgnet-0.3.0")
    with torch.no_grad():
        adapter.module.mlp.layers[7].bias += 10 * ENERGY_TOLERANCE  # type: ignore[union-attr,index]
    assert failed(adapter, monkeypatch) == {"reference energies"}


def test_it_fails_for_shuffled_atoms(all_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = load("sevennet-0")
    graph = adapter.graph

    def sorted_graph(atoms: Atoms) -> object:
        return graph(atoms[atoms.positions[:, 0].argsort()])

    monkeypatch.setattr(adapter, "graph", sorted_graph)
    assert "atom order" in failed(adapter, monkeypatch)


def test_it_fails_for_a_hook_that_is_declared_wrong(all_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = load("diep")
    energies = adapter.energies

    def twice(graphs: list[object]) -> Tensor:
        energies(graphs)
        return energies(graphs)

    monkeypatch.setattr(adapter, "energies", twice)
    assert "hooks fire as declared" in failed(adapter, monkeypatch)
