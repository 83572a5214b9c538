"""Stored statistics: states of accumulators, and one safetensors file of a kind, with their checks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from latentcmp._runtime.files import read_tensors, write_tensors
from latentcmp._runtime.types import Metadata, StateDict
from latentcmp.errors import InputError

FORMAT = "latentcmp-statistics-4"
METADATA = "metadata"  # the entry of a state_dict that is no tensor
Value = TypeVar("Value")
Expected = dict[str, tuple[tuple[int, ...], torch.dtype | None]]
"""Shape and dtype of tensors by name; dtype None for any."""


def write_statistics(path: Path, kind: str, tensors: dict[str, Tensor], metadata: Metadata) -> None:
    """Write tensors of a kind and their metadata in one atomic write."""
    write_tensors(path, tensors, {"kind": kind, **metadata}, FORMAT)


def read_statistics(path: Path, kind: str) -> tuple[dict[str, Tensor], Metadata]:
    """Read tensors and metadata. Raises InputError for anything but an undamaged file of this kind and format."""
    tensors, metadata, _ = read_tensors(path, FORMAT, "statistics file")
    if metadata["kind"] != kind:
        raise InputError(f"{path} holds {metadata['kind']}, expected {kind}")
    return tensors, metadata


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state_dict whose metadata names its kind."""
    write_statistics(path, state[METADATA]["kind"], tensors_of(state), state[METADATA])


def read_state(path: Path, kind: str) -> StateDict:
    """Read a state_dict of a kind."""
    tensors, metadata = read_statistics(path, kind)
    return {**tensors, METADATA: metadata}


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the entries of a state_dict but for its metadata."""
    return {name: tensor for name, tensor in state.items() if name != METADATA}


def check_metadata(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise InputError unless a state_dict has the metadata of the accumulator that is to load it."""
    given = state.get(METADATA)
    if json.dumps(given, default=str) != json.dumps(expected):  # as text, for the order of names counts
        raise InputError(
            f"a state of {given} cannot be loaded by an accumulator of {dict(expected)}; make the accumulator with the "
            "arguments of the one that gave the state"
        )


def check_tensors(what: object, tensors: Mapping[str, Tensor], expected: Expected) -> None:
    """Raise InputError unless the tensors are those expected; `what` names their origin in the message."""
    given = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    wanted = {name: (shape, dtype or given.get(name, (shape, None))[1]) for name, (shape, dtype) in expected.items()}
    if given != wanted:
        raise InputError(f"{what} holds tensors {given}, expected {wanted}; compute it again")


def prefixed(prefix: str, entries: Mapping[str, Value]) -> dict[str, Value]:
    """Return the same entries under prefix/name."""
    return {f"{prefix}/{name}": entry for name, entry in entries.items()}


def under(prefix: str, entries: Mapping[str, Value]) -> dict[str, Value]:
    """Return the entries that are named prefix/name, as name."""
    return {name[len(prefix) + 1 :]: entry for name, entry in entries.items() if name.startswith(f"{prefix}/")}
