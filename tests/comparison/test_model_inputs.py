"""Models as callers give them: loaded, as features in memory, stored and by name, in any mixture."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

import latentcmp
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.model_inputs import Inputs
from latentcmp.comparison.opening import device_of
from latentcmp.comparison.result import Comparison
from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.features.open import features_path, is_features, open_features
from latentcmp.models import Adapter, cards, load

MODELS = ["chgnet-0.3.0", "sevennet-0"]


class Stub(Adapter):
    """A loaded model that does not run."""

    def __init__(self, name: str = "chgnet-0.3.0") -> None:
        super().__init__(replace(cards()["chgnet-0.3.0"], name=name), nn.Identity(), torch.device("cpu"))

    def graph(self, atoms: Atoms) -> object:
        raise AssertionError("the model ran")

    def energies(self, graphs: object) -> Tensor:
        raise AssertionError("the model ran")


def features(name: str | None, seed: int = 0, layer: str | None = None, n_systems: int = 20) -> Features:
    """Random features [n_systems * 5, 4] of systems s0, s1, ..."""
    values = torch.randn(n_systems * 5, 4, generator=torch.Generator().manual_seed(seed))
    manifest = {key: value for key, value in (("name", name), ("layer", layer)) if value}
    ids = [f"s{number}" for number in range(n_systems)]
    return Features(
        values, torch.arange(n_systems + 1) * 5, ids, torch.ones(n_systems * 5, dtype=torch.int64), manifest
    )


def entries(comparison: Comparison) -> dict[str, list[list[float]]]:
    return {matrix.measure: matrix.tolist() for matrix in comparison.atoms}


def test_features_in_memory_have_the_numbers_of_stored_ones(tmp_path: Path) -> None:
    first, second = features("first"), features("second", seed=1)
    for one in (first, second):
        one.save(tmp_path / one.manifest["name"])
    stored = latentcmp.compare([str(tmp_path / "first"), f"features:{tmp_path / 'second'}"], n_local_points=10)
    mixed = latentcmp.compare([first, f"features:{tmp_path / 'second'}"], n_local_points=10)
    opened = latentcmp.compare([open_features(tmp_path / "first"), second], n_local_points=10)
    assert stored.models == mixed.models == opened.models == ("first", "second")
    assert entries(stored) == entries(mixed) == entries(opened)
    assert [known["source"] for known in mixed.manifest["models"].values()] == ["features in memory", "stored features"]


def test_features_in_memory_join_by_id() -> None:
    more = features("more", seed=1, n_systems=25)
    order = torch.arange(125).view(25, 5).flip(0).flatten()  # the systems in the opposite order
    turned = Features(more.values[order], more.ptr, more.ids[::-1], more.numbers, {"name": "turned"})
    comparison = latentcmp.compare([features("few"), more, turned], measures="gfre")
    assert comparison.gfre["more", "turned"] < 1e-5  # ridge of strength 1e-3 shrinks by about its square
    assert comparison.gfre["few", "more"] > 0.9
    assert comparison.manifest["structures"]["n_systems"] == 20
    assert {skip["reason"] for skip in comparison.manifest["structures"]["skipped"]} == {"is not in few"}


def test_a_loaded_model_a_name_and_features_mix(all_models: None, structures: list[Atoms]) -> None:
    few = [atoms.copy() for atoms in structures[::3]]
    named = latentcmp.compare(["chgnet-0.3.0", "chgnet-0.2.0", "sevennet-0"], few, measures=["gfre"], device="cpu")
    adapter, in_memory = load("chgnet-0.3.0"), latentcmp.extract("sevennet-0", few, device="cpu")
    mixed = latentcmp.compare([adapter, "chgnet-0.2.0", in_memory], few, measures=["gfre"])
    assert mixed.models == named.models
    torch.testing.assert_close(mixed.gfre.values, named.gfre.values, rtol=1e-6, atol=1e-9)
    known = mixed.manifest["models"]
    assert [known[name]["source"] for name in mixed.models] == ["loaded model", "model", "features in memory"]
    assert known["chgnet-0.3.0"]["package"] == "chgnet"
    assert known["chgnet-0.3.0"]["module"] == named.manifest["models"]["chgnet-0.3.0"]["module"]
    assert "sha256" not in known["chgnet-0.3.0"]  # the weights may not be those of the checkpoint


def test_labels_are_the_names_of_cards_and_manifests() -> None:
    inputs = Inputs.of([Stub("mine"), "diep@backbone", features("theirs"), features(None)])
    assert inputs.names == ("mine", "diep@backbone", "theirs", "features")
    assert list(inputs.in_memory) == ["mine", "theirs", "features"]
    assert Inputs.of(features("alone")).names == ("alone",)


def test_features_of_one_model_are_told_apart_by_their_layer() -> None:
    inputs = Inputs.of([features("sevennet-0", layer="last"), features("sevennet-0", layer="backbone"), Stub("other")])
    assert inputs.names == ("sevennet-0@last", "sevennet-0@backbone", "other")
    assert [getattr(store, "label", "") for store in inputs.in_memory.values()] == [*inputs.names[:2], ""]


@pytest.mark.parametrize(
    "given",
    [
        [Stub("twice"), Stub("twice")],
        ["diep", Stub("diep")],
        [features("twice", layer="last"), features("twice", layer="last")],
        [features(None), features(None)],
    ],
)
def test_labels_that_are_not_unique_are_refused(given: list) -> None:
    with pytest.raises(InputError, match=r"2 of the models are called '.*'; give one of them another name"):
        latentcmp.compare(given)


def test_a_directory_steps_aside_for_the_name_of_a_loaded_model(tmp_path: Path) -> None:
    features("same", seed=1).save(tmp_path / "same")
    comparison = latentcmp.compare([features("same"), f"features:{tmp_path / 'same'}"], measures=["gfre"])
    assert comparison.models == ("same", str(tmp_path / "same"))


def test_the_device_is_that_of_the_loaded_models() -> None:
    adapter = Stub()
    adapter.device = torch.device("meta")
    with pytest.raises(InputError, match="device 'meta' is not supported"):
        device_of(CompareConfig.of(), {"mine": adapter})
    with pytest.raises(InputError, match="mine is on meta, the comparison on cpu; load all models on one"):
        device_of(CompareConfig.of(device="cpu"), {"mine": adapter})


def test_layers_of_loaded_models_are_checked_before_any_runs(structures: list[Atoms]) -> None:
    with pytest.raises(InputError, match="mine has no layer 'nope'"):
        latentcmp.compare([Stub("mine")], structures, layer="nope")


def test_structures_without_a_model_are_refused(structures: list[Atoms]) -> None:
    with pytest.raises(InputError, match="no model to run on them"):
        latentcmp.compare([features("a")], structures)


def test_what_is_features_and_what_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    features("a").save("stored")
    open_features("stored").to_npy("arrays")
    features("a").save("diep")
    Path("empty").mkdir()
    for text in ("stored", "arrays", "features:diep", "features:nowhere", "some/where", str(tmp_path / "empty")):
        assert is_features(text)
    for text in ("diep", "empty", "chgnet-0.3.0", "chgnet:runs/epoch9.pth.tar", "sevennet-0@backbone"):
        assert not is_features(text)
    assert features_path("features:diep") == features_path("diep") == Path("diep")
    with pytest.raises(InputError, match="nowhere is no directory of features"):
        latentcmp.compare(["features:nowhere"])
    with pytest.raises(InputError, match="unknown model 'empty'"):
        latentcmp.compare(["empty"])
    with pytest.raises(InputError, match=r"features .*stored were given twice"):
        latentcmp.compare(["stored", f"features:{tmp_path / 'stored'}"])
