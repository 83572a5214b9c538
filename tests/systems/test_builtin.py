"""The built-in structures."""

from collections import Counter

import numpy as np
from ase.collections import g2
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from latentcmp.systems.builtin import ELEMENTS, builtin_systems
from latentcmp.systems.screen import problem
from latentcmp.systems.system import set_hash


def test_the_set_is_what_it_is_said_to_be(all_models: None) -> None:
    systems = builtin_systems()
    assert (len(systems), sum(map(len, systems))) == (812, 7395)
    species = {z for system in systems for z in system.atoms.numbers.tolist()}
    assert len(species) == 82
    assert species <= ELEMENTS
    assert len({system.id for system in systems}) == 812
    assert all(system.atoms.pbc.all() and problem(system.atoms) is None for system in systems)
    subsets = {"aflow": 256, "aflow-perturbed": 246, "dcdft": 64, "g2": 148, "s22": 22, "slab": 76}
    assert Counter(system.subset for system in systems) == subsets


def test_no_atoms_overlap(all_models: None) -> None:
    for system in builtin_systems():
        reach = 0.75 * covalent_radii[system.atoms.numbers]
        assert len(neighbor_list("i", system.atoms, reach)) == 0, system.id


def test_all_molecules_are_kept_and_no_noble_gas_is(all_models: None) -> None:
    systems = builtin_systems()
    names = {system.id for system in systems if system.subset == "g2"}
    assert names >= {"g2/N2", "g2/CO", "g2/C2H2", "g2/H2"}
    assert names == {f"g2/{name}" for name in g2.names if len(g2[name]) > 1}
    species = {symbol for system in systems for symbol in system.atoms.symbols}
    assert not species & {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}


def test_it_is_the_same_every_time_and_perturbed_copies_share_their_parents_group(all_models: None) -> None:
    systems = builtin_systems()
    assert set_hash(systems) == set_hash(builtin_systems()[::-1])
    by_id = {system.id: system for system in systems}
    copies = [system for system in systems if system.subset == "aflow-perturbed"]
    pairs = [(copy, by_id.get(copy.id.removesuffix("/perturbed"))) for copy in copies]
    for copy, parent in pairs:
        if parent is not None:
            assert copy.group == parent.group
            assert not np.allclose(copy.atoms.positions, parent.atoms.positions)
    alone = [copy.id for copy, parent in pairs if parent is None]
    assert alone == ["aflow/AB_cP8_198_a_a/C4O4/perturbed"]  # the prototype's nearest pair is at 0.7485


def test_all_structures_of_one_element_are_one_family(all_models: None) -> None:
    groups = {system.group for system in builtin_systems() if set(system.atoms.symbols) == {"Cu"}}
    assert groups == {"element/Cu"}
