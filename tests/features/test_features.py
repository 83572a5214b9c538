"""Features of real models: order, invariance, layers, and what is wrong with a request."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import latentcmp
from latentcmp.errors import InputError, ModelError
from latentcmp.features.data import Features
from latentcmp.features.extract import extract
from latentcmp.models.batching import batches
from latentcmp.models.registry import DEFAULT_MODELS, load
from latentcmp.systems.system import System


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", DEFAULT_MODELS)
def test_a_rotated_structure_has_the_same_features(all_models: None, structures: list[Atoms], name: str) -> None:
    adapter = load(name)
    turned = [atoms.copy() for atoms in structures[:8]]
    for atoms in turned:
        atoms.rotate(37.0, (1.0, 2.0, -0.5), rotate_cell=True)
    for layer in ("last", "backbone"):
        found, expected = extract(adapter, turned, layer), extract(adapter, structures[:8], layer)
        assert relative(found.values, expected.values) < 1e-4


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "sevennet-0", "diep"])
def test_rows_follow_the_atoms_and_batches_do_not_matter(all_models: None, structures: list[Atoms], name: str) -> None:
    adapter = load(name)
    few = structures[:6]
    whole = extract(adapter, few)
    assert whole.values.shape == (sum(map(len, few)), 64)
    assert whole.ptr.tolist() == [0, *np.cumsum([len(atoms) for atoms in few])]
    assert whole.numbers.tolist() == [z for atoms in few for z in atoms.numbers]
    alone = torch.cat([extract(adapter, atoms, batch_atoms=1).values for atoms in few])
    assert relative(alone, whole.values) < 1e-5
    backwards = torch.cat([extract(adapter, atoms[::-1]).values.flip(0) for atoms in few])
    assert relative(backwards, whole.values) < 1e-5


def test_a_molecule_feels_no_box(all_models: None) -> None:
    free = molecule("CH3CH2OH")
    boxed = free.copy()
    boxed.center(vacuum=9.0)
    boxed.pbc = True
    for name in ("chgnet-0.3.0", "sevennet-0", "diep"):
        found = extract(name, [free, boxed])
        assert relative(found.values[: len(free)], found.values[len(free) :]) < 1e-5
        assert found.manifest["boxed"] == ([] if name == "sevennet-0" else ["structure:0"])


def test_any_module_path_is_a_layer(all_models: None, structures: list[Atoms]) -> None:
    adapter = load("sevennet-0")
    scalars = extract(adapter, structures[:3], "2_equivariant_gate").values
    full = extract(adapter, structures[:3], "backbone.2", reduce="full").values
    assert scalars.shape[1] == 128
    assert full.shape[1] == 480
    assert torch.equal(scalars, full[:, :128])
    inner = extract(adapter, structures[:3], "1_self_interaction_1")
    assert inner.manifest["layout"] == "128x0e+64x1e+32x2e"
    assert inner.values.shape[1] == 128


def test_the_manifest_says_where_features_come_from(sevennet_features: Features) -> None:
    manifest = sevennet_features.manifest
    assert manifest["sha256"].startswith("7052cb42")
    assert manifest["module"] == "reduce_input_to_hidden"
    assert (manifest["layout"], manifest["width"], manifest["dtype"]) == ("64x0e", 64, "float32")
    assert manifest["n_systems"] == len(sevennet_features.ids)
    assert manifest["package_version"] == "0.13.0"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("lst", r"no layer 'lst'; layers are last, backbone"),
        ("bond_conv_layers.0", r"for 16 atoms, which is not one row for each atom"),
        ("composition_model", "is not one row|gives no tensor"),
    ],
)
def test_a_wrong_layer_is_explained(all_models: None, structures: list[Atoms], layer: str, message: str) -> None:
    with pytest.raises(latentcmp.errors.LatentcmpError, match=message):
        extract("chgnet-0.3.0", structures[-2:], layer)


def test_a_device_that_is_absent_is_an_error() -> None:
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        extract("diep", device="gpu")
    with pytest.raises(InputError, match="'meta' is not supported"):
        extract("diep", device="meta")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="sees no CUDA device"):
            extract("diep", device="cuda")


def test_non_finite_features_name_the_model_the_structure_and_the_atom(
    all_models: None, structures: list[Atoms]
) -> None:
    adapter = load("chgnet-0.3.0")

    def poison(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output.index_fill(0, torch.tensor([9]), torch.nan)

    adapter.module.mlp.layers[5].register_forward_hook(poison)  # type: ignore[union-attr,index]
    with pytest.raises(
        InputError, match=r"chgnet-0\.3\.0 gives a NaN.* for 1 of 16 atoms, first atom 1 of structure 'structure:1'"
    ):
        extract(adapter, structures[:2])


def test_a_failure_inside_a_model_names_the_structure(all_models: None, structures: list[Atoms]) -> None:
    adapter = load("diep")

    def broken(atoms: Atoms) -> None:
        if len(atoms) == 9:
            raise ZeroDivisionError("inside")

    adapter.graph = broken  # type: ignore[method-assign]
    ethanol = molecule("CH3CH2OH")
    with pytest.raises(ModelError, match="diep failed on structure 'structure:1': ZeroDivisionError: inside"):
        extract(adapter, [structures[0], ethanol])


def test_a_default_dtype_of_float64_changes_nothing(all_models: None, structures: list[Atoms]) -> None:
    expected = {name: extract(name, structures[:3]).values for name in ("chgnet-0.3.0", "sevennet-0", "diep")}
    torch.set_default_dtype(torch.float64)
    try:
        for name, values in expected.items():
            assert torch.equal(extract(name, structures[:3]).values, values)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_batches_keep_order_and_stay_within_their_size(structures: list[Atoms]) -> None:
    systems = [System(str(i), atoms, str(i)) for i, atoms in enumerate(structures)]
    for size in (1, 20, 64, 10_000):
        made = list(batches(systems, size))
        assert [system.id for batch in made for system in batch] == [system.id for system in systems]
        assert all(len(batch) == 1 or sum(map(len, batch)) <= size for batch in made)
