"""Tensors at rest: one safetensors file, written aside and renamed, refused when it is not what it says."""

import json
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcmp.errors import InputError


def write_tensors(path: Path, tensors: dict[str, Tensor], known: dict[str, Any], form: str) -> str:
    """Write tensors and what is known of them, as the format `form`; returns the digest of both.

    An earlier file is replaced only by a whole one. Raises InputError where the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    aside = path.with_name(f".{path.name}.{os.getpid()}")
    held = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps(known)
    digest = _digest(held, text)
    try:
        save_file(held, aside, {"format": form, "known": text, "digest": digest})
        os.replace(aside, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # it is gone after os.replace, and the folder may be none
            aside.unlink()
    return digest


def read_tensors(path: Path, form: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors, what is known of them and their digest; `what` names such a file in messages.

    Raises InputError for anything but a whole file of this format.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{what} {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is no whole {what}: {error}") from error
    if header.get("format") != form:
        raise InputError(f"{path} is of format {header.get('format')!r}, expected {form!r}; make it anew")
    if header.get("digest") != _digest(tensors, header.get("known", "")):
        raise InputError(f"{path} is damaged: its content does not have the digest it was written with")
    return tensors, json.loads(header["known"]), header["digest"]


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """A hash of every byte that a number may come from."""
    state = blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
