"""Stored features joined on structure, atom and element: the systems that all of them hold, and those left out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.systems.screen import OnUnsupported, Screening, Skip
from latentcmp.systems.system import System, SystemRecord, in_canonical_order


class Joinable(Protocol):
    """What joining asks of a party: stored features, or structures at hand that models are run on."""

    label: str

    @property
    def systems(self) -> Sequence[SystemRecord]: ...
    @property
    def manifest(self) -> dict[str, Any]: ...
    def numbers_of(self, id: str) -> Tensor: ...


class SystemsAtHand:
    """Screened structures, as stored features know theirs."""

    def __init__(self, label: str, screening: Screening[System]) -> None:
        self.label = label
        self.systems = [system.record for system in screening.systems]
        skipped = [{"id": skip.id, "reason": skip.reason} for skip in screening.skipped]
        self.manifest = {"skipped": skipped, "boxed": screening.boxed}
        self._numbers = {system.id: system.atoms.numbers for system in screening.systems}

    def numbers_of(self, id: str) -> Tensor:
        """Atomic numbers of one system [n_atoms], int64."""
        return torch.from_numpy(self._numbers[id]).long()


def join(sources: Sequence[Joinable], on_unsupported: OnUnsupported = "skip") -> Screening[SystemRecord]:
    """The systems that all sources hold, in the order of a comparison of models, and those left out for all.

    Groups, subsets and digests are those of the first source that knows them; a system of which no group is known is
    its own. Raises InputError where atoms differ, where nothing is left, and, if `on_unsupported` is "error", for the
    first system that one source lacks.
    """
    if not sources:
        raise InputError("no features were given; give directories of features")
    known = [{system.id: system for system in source.systems} for source in sources]
    skipped = _left_out(sources, known)
    if skipped and on_unsupported == "error":
        raise InputError(f"structure {skipped[0].id!r} {skipped[0].reason}")
    left_out = {skip.id for skip in skipped}
    systems = [_merged([held[id] for held in known]) for id in known[0] if id not in left_out]
    if not systems:
        raise InputError(f"no structure is in all of {', '.join(source.label for source in sources)}: the ids differ")
    for source in sources[1:]:
        _check_atoms(sources[0], source, systems)
    kept = {system.id for system in systems}
    boxed = dict.fromkeys(id for source in sources for id in source.manifest.get("boxed", ()) if id in kept)
    single_atoms = [system.id for system in systems if len(system) == 1]
    return Screening(in_canonical_order(systems), skipped, list(boxed), single_atoms, _differing(sources, systems))


def _differing(sources: Sequence[Joinable], systems: Sequence[SystemRecord]) -> list[str]:
    """The ids of systems whose positions or cells are not the same, to the last bit, in all sources that know them."""
    digests: dict[str, set[str]] = {}
    for source in sources:
        for system in source.systems:
            digests.setdefault(system.id, set()).add(system.digest)
    return [system.id for system in systems if len(digests[system.id] - {""}) > 1]


def _left_out(sources: Sequence[Joinable], known: Sequence[dict[str, SystemRecord]]) -> list[Skip]:
    """The systems that some source lacks, each with the reason of its own screening where that is known."""
    reasons = {skip["id"]: str(skip["reason"]) for source in sources for skip in source.manifest.get("skipped", ())}
    found = []
    for id in dict.fromkeys([*(id for systems in known for id in systems), *reasons]):
        lacking = next((source for source, systems in zip(sources, known, strict=True) if id not in systems), None)
        if lacking:
            found.append(Skip(id, reasons.get(id, f"is not in {lacking.label}")))
    return found


def _merged(records: Sequence[SystemRecord]) -> SystemRecord:
    def first(key: str, otherwise: str = "") -> str:
        return next((getattr(record, key) for record in records if getattr(record, key)), otherwise)

    return replace(records[0], group=first("group", records[0].id), subset=first("subset"), digest=first("digest"))


def _check_atoms(one: Joinable, other: Joinable, systems: Sequence[SystemRecord]) -> None:
    """Raise InputError for a system whose atoms are not the same elements in both."""
    for system in systems:
        here, there = one.numbers_of(system.id), other.numbers_of(system.id)
        if len(here) != len(there):
            raise InputError(
                f"structure {system.id!r} has {len(here)} atoms in {one.label} and {len(there)} in {other.label}"
            )
        if not torch.equal(here, there):
            atom = int((here != there).nonzero()[0, 0])
            raise InputError(
                f"atom {atom} of structure {system.id!r} has Z = {int(here[atom])} in {one.label} and "
                f"{int(there[atom])} in {other.label}; the same id must mean the same structure"
            )
