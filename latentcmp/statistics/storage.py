"""Statistics at rest: one safetensors file, refused when it is not what it says."""

from pathlib import Path
from typing import Any

from torch import Tensor

from latentcmp._storage import read_tensors, write_tensors

FORMAT = "latentcmp-statistics-1"


def write_statistics(path: Path, tensors: dict[str, Tensor], known: dict[str, Any]) -> None:
    """Write tensors and what is known of them; an earlier file is replaced only by a whole one."""
    write_tensors(path, tensors, known, FORMAT)


def read_statistics(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and what is known of them. Raises InputError for anything but a whole file of this version."""
    tensors, known, _ = read_tensors(path, FORMAT, "statistics file")
    return tensors, known
