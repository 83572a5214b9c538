"""Reading of structures: the built-in set, files that ASE reads, or ASE Atoms, as systems with unique ids."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ase import Atoms

from latentcmp.errors import InputError
from latentcmp.systems.builtin import builtin_systems
from latentcmp.systems.system import System

Structures: TypeAlias = str | Path | Atoms | System | Iterable[str | Path | Atoms | System]


def read_systems(structures: Structures | None = None) -> list[System]:
    """Read structures as systems.

    Of each structure's `info`, `id` (or `structure_id`), `group` (or `parent`) and `subset` are those of the system;
    without them the id is file:frame and the group is the structure itself, with any of identical positions and cell.

    Args:
        structures: a path or several (files that ASE reads; extxyz and databases are streamed), ASE Atoms or several,
            or None for the built-in set.

    Raises:
        InputError: a file is missing, empty or broken, an id occurs twice, or there are no structures.
    """
    if structures is None:
        return builtin_systems()
    single = isinstance(structures, (str, Path, Atoms, System))
    items: Iterable[str | Path | Atoms | System] = [structures] if single else structures  # type: ignore[assignment,list-item]
    items = list(items)
    names = _file_names(items)
    systems = [system for position, item in enumerate(items) for system in _systems(item, position, names)]
    if not systems:
        raise InputError(
            "no structures were given; give files that ASE reads, a list of Atoms, or None for the built-in set"
        )
    _check_names(systems)
    return _with_groups(systems)


def _file_names(items: list[Any]) -> dict[Path, str]:
    """The name of each file in ids: its own, or its path where another file has the same name."""
    paths = [Path(item) for item in items if isinstance(item, (str, Path))]
    shared = Counter(path.name for path in set(paths))
    return {path: path.name if shared[path.name] == 1 else str(path) for path in paths}


def _systems(item: str | Path | Atoms | System, position: int, names: dict[Path, str]) -> Iterator[System]:
    if isinstance(item, System):
        yield item
    elif isinstance(item, Atoms):
        yield _named(item, f"structure:{position}")
    elif isinstance(item, (str, Path)):
        yield from _read_file(Path(item), names[Path(item)])
    else:
        raise InputError(f"structures must be paths or ase.Atoms, got {type(item).__name__} at position {position}")


def _read_file(path: Path, name: str) -> Iterator[System]:
    if not path.is_file():
        raise InputError(f"structure file {path} does not exist" if not path.exists() else f"{path} is not a file")
    frame = 0
    try:
        for atoms in _frames(path):
            yield _named(atoms, f"{name}:{frame}")
            frame += 1
    except InputError:
        raise
    except Exception as error:  # ASE's readers raise whatever their parsers raise
        raise InputError(
            f"{path} cannot be read after frame {frame - 1}: {_reason(error)}"
            if frame
            else f"{path} cannot be read: {_reason(error)}; it must be a file that ASE reads, such as extended XYZ"
        ) from error
    if not frame:
        raise InputError(f"{path} contains no structures")


def _frames(path: Path) -> Iterator[Atoms]:
    """The structures of a file; key-value pairs and data of an ASE database become `info`."""
    if path.suffix != ".db":
        from ase.io import iread

        yield from iread(path, index=":", do_not_split_by_at_sign=True)
        return
    from ase.db import connect

    for row in connect(path).select():
        atoms = row.toatoms()
        atoms.info.update({**row.data, **row.key_value_pairs})
        yield atoms


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _named(atoms: Atoms, name: str) -> System:
    info = atoms.info
    id_ = str(info.get("id", info.get("structure_id", name)))
    group = str(info.get("group", info.get("parent", "")))
    return System(id_, atoms, group, str(info.get("subset", "")))


def _with_groups(systems: list[System]) -> list[System]:
    """The systems, those without a group in that of the smallest id among identical ones, as no rounding changes it."""
    first: dict[str, str] = {}
    for system in systems:
        if not system.group:
            first[system.digest] = min(first.get(system.digest, system.id), system.id)
    return [system if system.group else replace(system, group=first[system.digest]) for system in systems]


def _check_names(systems: list[System]) -> None:
    seen: set[str] = set()
    for system in systems:
        if system.id in seen:
            raise InputError(
                f"structure id {system.id!r} occurs twice; ids join the rows of all models and must be unique: "
                "rename one, or remove the file that was given twice"
            )
        seen.add(system.id)
