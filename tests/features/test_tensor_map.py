"""metatensor TensorMaps in and out."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from latentcmp.errors import InputError, MissingPackageError
from latentcmp.features.tensor_map import from_tensor_map, to_tensor_map

from .stored_cases import COUNTS, IDS, features

metatensor = pytest.importorskip("metatensor")


def tensor_map(values: np.ndarray, samples: list[list[int]], names: tuple[str, str] = ("system", "atom")) -> object:
    block = metatensor.TensorBlock(
        values=values,
        samples=metatensor.Labels(names, np.array(samples, dtype=np.int32)),
        components=[],
        properties=metatensor.Labels.range("feature", values.shape[1]),
    )
    return metatensor.TensorMap(metatensor.Labels.single(), [block])


def test_what_goes_out_comes_back_through_a_file(tmp_path: Path) -> None:
    given = features()
    tensor = to_tensor_map(given)
    assert tensor.sample_names == ["system", "atom"]
    assert tensor[0].samples["system"].tolist() == np.repeat(np.arange(6), COUNTS).tolist()
    metatensor.save(tmp_path / "x.mts", tensor)
    found = from_tensor_map(metatensor.load(tmp_path / "x.mts"))
    assert torch.equal(found.values, given.values)
    assert torch.equal(found.ptr, given.ptr)
    assert torch.equal(found.numbers, given.numbers)
    assert found.ids == IDS
    assert found.systems == given.systems
    assert found.manifest == given.manifest


def test_structures_name_the_systems_of_a_foreign_tensor_map() -> None:
    atoms = [Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]], info={"id": "first"}), Atoms("N", info={"id": "second"})]
    values = np.arange(6.0).reshape(3, 2)
    found = from_tensor_map(tensor_map(values, [[1, 0], [0, 1], [0, 0]]), atoms)
    assert found.values.tolist() == [[4, 5], [2, 3], [0, 1]]
    assert found.numbers.tolist() == [8, 1, 7]
    assert found.ids == ["first", "second"]
    assert found.ptr.tolist() == [0, 2, 3]


def test_what_is_not_one_row_an_atom_is_explained() -> None:
    atoms = [Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])]
    with pytest.raises(InputError, match="which structures its systems are"):
        from_tensor_map(tensor_map(np.ones((2, 2)), [[0, 0], [0, 1]]))
    with pytest.raises(InputError, match=r"samples \['structure', 'center'\], expected"):
        from_tensor_map(tensor_map(np.ones((2, 2)), [[0, 0], [0, 1]], ("structure", "center")), atoms)
    with pytest.raises(InputError, match="1 samples, expected one for each of the 2 atoms"):
        from_tensor_map(tensor_map(np.ones((1, 2)), [[0, 0]]), atoms)
    with pytest.raises(InputError, match="2 samples, expected one for each of the 2 atoms"):
        from_tensor_map(tensor_map(np.ones((2, 2)), [[0, 0], [1, 0]]), atoms)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metatensor", None)
    with pytest.raises(MissingPackageError, match="pip install metatensor-core"):
        to_tensor_map(features())
