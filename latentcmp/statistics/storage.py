"""Statistics at rest: one safetensors file of a kind, refused when it is not what it says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from latentcmp._runtime.files import read_tensors, write_tensors
from latentcmp.errors import InputError

FORMAT = "latentcmp-statistics-2"


def write_statistics(path: Path, kind: str, tensors: dict[str, Tensor], known: dict[str, Any]) -> None:
    """Write tensors of a kind and what is known of them; an earlier file is replaced only by a whole one."""
    write_tensors(path, tensors, {"kind": kind, **known}, FORMAT)


def read_statistics(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and what is known of them. Raises InputError for anything but a whole file of kind and version."""
    tensors, known, _ = read_tensors(path, FORMAT, "statistics file")
    if known["kind"] != kind:
        raise InputError(f"{path} holds {known['kind']}, expected {kind}")
    return tensors, known


def check_tensors(path: Path, tensors: dict[str, Tensor], expected: dict[str, tuple[tuple[int, ...], Any]]) -> None:
    """Raise InputError unless the tensors are those expected, {name: (shape, dtype, or None for any)}."""
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    wanted = {name: (shape, dtype or found.get(name, (shape, None))[1]) for name, (shape, dtype) in expected.items()}
    if found != wanted:
        raise InputError(f"{path} holds tensors {found}, expected {expected}; make it anew")


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, under prefix/name."""
    return {f"{prefix}/{name}": tensor.cpu() for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are named prefix/name, as name."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}
