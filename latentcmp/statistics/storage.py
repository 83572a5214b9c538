"""Statistics at rest: one safetensors file, written aside and renamed, refused when it is not what it says."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcmp.errors import InputError

FORMAT = "latentcmp-statistics-2"


def write_statistics(path: Path, kind: str, tensors: dict[str, Tensor], known: dict[str, Any]) -> None:
    """Write tensors of a kind and what is known of them; an earlier file is replaced only by a whole one."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    aside = path.with_name(f".{path.name}.{os.getpid()}")
    held = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps({"kind": kind, **known})
    try:
        save_file(held, aside, {"format": FORMAT, "known": text, "digest": _digest(held, text)})
        os.replace(aside, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # it is gone after os.replace, and the folder may be none
            aside.unlink()


def read_statistics(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and what is known of them. Raises InputError for anything but a whole file of kind and version."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"statistics file {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is no whole statistics file: {error}") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path} is of format {header.get('format')!r}, expected {FORMAT!r}; make it anew")
    if header.get("digest") != _digest(tensors, header.get("known", "")):
        raise InputError(f"{path} is damaged: its content does not have the digest it was written with")
    known = json.loads(header["known"])
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


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """A hash of every byte that a number may come from."""
    state = blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
