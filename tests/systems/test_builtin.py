"""The built-in structures."""

from collections import Counter

import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from latentcmp.systems.builtin import ELEMENTS, builtin_systems
from latentcmp.systems.screen import problem
from latentcmp.systems.system import set_hash


def test_the_set_is_what_it_is_said_to_be(all_models: None) -> None:
    systems = builtin_systems()
    assert (len(systems), sum(map(len, systems))) == (863, 7993)
    species = {z for system in systems for z in system.atoms.numbers.tolist()}
    assert len(species) == 88
    assert species <= ELEMENTS
    assert len({system.id for system in systems}) == 863
    assert all(system.atoms.pbc.all() and problem(system.atoms) is None for system in systems)
    assert Counter(system.subset for system in systems)["aflow"] == 271


def test_no_atoms_overlap(all_models: None) -> None:
    for system in builtin_systems():
        reach = 0.6 * covalent_radii[system.atoms.numbers]
        assert len(neighbor_list("i", system.atoms, reach)) == 0, system.id


def test_it_is_the_same_every_time_and_perturbed_copies_share_their_parents_group(all_models: None) -> None:
    systems = builtin_systems()
    assert set_hash(systems) == set_hash(builtin_systems()[::-1])
    by_id = {system.id: system for system in systems}
    copies = [system for system in systems if system.subset == "aflow-perturbed"]
    for copy in copies:
        parent = by_id[copy.id.removesuffix("/perturbed")]
        assert copy.group == parent.group
        assert not np.allclose(copy.atoms.positions, parent.atoms.positions)
    assert len(copies) == 269


def test_all_structures_of_one_element_are_one_family(all_models: None) -> None:
    groups = {system.group for system in builtin_systems() if set(system.atoms.symbols) == {"Cu"}}
    assert groups == {"element/Cu"}
