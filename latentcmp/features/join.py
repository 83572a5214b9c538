"""Join of several sources of features: the systems that all of them hold, and those left out, with reasons."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError
from latentcmp.systems.screen import OnUnsupported, Screening, Skip
from latentcmp.systems.system import System, SystemRecord, in_canonical_order


class SystemTable(Protocol):
    """Interface of what can be joined: stored features, or screened structures for models to run on."""

    label: str

    @property
    def systems(self) -> Sequence[SystemRecord]:
        """The systems, in any order."""

    @property
    def manifest(self) -> Metadata:
        """Metadata; of it the join reads `skipped` and `boxed`."""

    def numbers_of(self, id: str) -> Tensor:
        """Return the atomic numbers [n_atoms] (int64) of one system."""


class ScreenedSystems:
    """The systems of a screening as a table to join with stored features.

    Args:
        label: names the models in messages.
        screening: structures that the models accept.
    """

    def __init__(self, label: str, screening: Screening[System]) -> None:
        self.label = label
        self.systems = [system.record for system in screening.systems]
        skipped = [{"id": skip.id, "reason": skip.reason} for skip in screening.skipped]
        self.manifest = {"skipped": skipped, "boxed": screening.boxed}
        self._numbers = {system.id: system.atoms.numbers for system in screening.systems}

    def numbers_of(self, id: str) -> Tensor:
        """Return the atomic numbers [n_atoms] (int64) of one system."""
        return torch.from_numpy(self._numbers[id]).long()


def join(tables: Sequence[SystemTable], on_unsupported: OnUnsupported = "skip") -> Screening[SystemRecord]:
    """Join tables on the ids of their systems.

    Group, subset and digest of a system are taken from the first table that states them; a system without a group is
    its own.

    Args:
        tables: the sources of features; the same id must mean the same atoms in all of them.
        on_unsupported: "skip" leaves out a system that is not in all tables, "error" raises for it.

    Returns:
        The systems in all tables, in canonical order, and those left out.

    Raises:
        InputError: the atoms of a system differ between tables, or no system is in all of them.
    """
    if not tables:
        raise InputError("no features were given; give directories of features")
    systems = [{system.id: system for system in table.systems} for table in tables]
    skipped = _skipped(tables, systems)
    if skipped and on_unsupported == "error":
        raise InputError(f"structure {skipped[0].id!r} {skipped[0].reason}")
    omitted = {skip.id for skip in skipped}
    joined = [_merged([by_id[id] for by_id in systems]) for id in systems[0] if id not in omitted]
    if not joined:
        raise InputError(f"no structure is in all of {', '.join(table.label for table in tables)}: the ids differ")
    for table in tables[1:]:
        _check_atoms(tables[0], table, joined)
    ids = {system.id for system in joined}
    boxed = dict.fromkeys(id for table in tables for id in table.manifest.get("boxed", ()) if id in ids)
    single_atoms = [system.id for system in joined if len(system) == 1]
    return Screening(in_canonical_order(joined), skipped, list(boxed), single_atoms, _differing(tables, joined))


def _differing(tables: Sequence[SystemTable], systems: Sequence[SystemRecord]) -> list[str]:
    """Ids of the systems whose positions or cells are not bitwise equal in all tables that state a digest."""
    digests: dict[str, set[str]] = {}
    for table in tables:
        for system in table.systems:
            digests.setdefault(system.id, set()).add(system.digest)
    return [system.id for system in systems if len(digests[system.id] - {""}) > 1]


def _skipped(tables: Sequence[SystemTable], systems: Sequence[dict[str, SystemRecord]]) -> list[Skip]:
    """Systems that are not in all tables, each with the reason of a screening where a manifest states one."""
    reasons = {skip["id"]: str(skip["reason"]) for table in tables for skip in table.manifest.get("skipped", ())}
    skipped = []
    for id in dict.fromkeys([*(id for by_id in systems for id in by_id), *reasons]):
        without = next((table for table, by_id in zip(tables, systems, strict=True) if id not in by_id), None)
        if without:
            skipped.append(Skip(id, reasons.get(id, f"is not in {without.label}")))
    return skipped


def _merged(records: Sequence[SystemRecord]) -> SystemRecord:
    """One record of a system; each attribute from the first record that states it."""

    def first(key: str, default: str = "") -> str:
        return next((getattr(record, key) for record in records if getattr(record, key)), default)

    return replace(records[0], group=first("group", records[0].id), subset=first("subset"), digest=first("digest"))


def _check_atoms(one: SystemTable, other: SystemTable, systems: Sequence[SystemRecord]) -> None:
    """Raise InputError for a system whose atomic numbers differ."""
    for system in systems:
        numbers, others = one.numbers_of(system.id), other.numbers_of(system.id)
        if len(numbers) != len(others):
            raise InputError(
                f"structure {system.id!r} has {len(numbers)} atoms in {one.label} and {len(others)} in {other.label}"
            )
        if not torch.equal(numbers, others):
            atom = int((numbers != others).nonzero()[0, 0])
            raise InputError(
                f"atom {atom} of structure {system.id!r} has Z = {int(numbers[atom])} in {one.label} and "
                f"{int(others[atom])} in {other.label}; the same id must mean the same structure"
            )
