"""Conversion of features to and from a metatensor TensorMap of one block: samples (system, atom), dense properties.

A TensorMap numbers its systems. Their records and atomic numbers are stored in its info "latentcmp"; where that is
missing, the structures must be given.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError, MissingPackageError
from latentcmp.features.data import Features
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.system import SystemRecord, offsets

INFO = "latentcmp"


def to_tensor_map(features: Features) -> Any:
    """Return a metatensor TensorMap that shares the values. Raises MissingPackageError without metatensor."""
    metatensor = _metatensor()
    records = features.records
    system = torch.repeat_interleave(torch.arange(len(records)), features.ptr.diff().cpu())
    atom = torch.arange(len(features)) - features.ptr.cpu()[system]
    block = metatensor.TensorBlock(
        values=features.values,
        samples=metatensor.Labels(["system", "atom"], torch.stack([system, atom], 1).to(torch.int32).numpy()),
        components=[],
        properties=metatensor.Labels.range("feature", features.values.shape[1]),
    )
    tensor = metatensor.TensorMap(metatensor.Labels.single(), [block])
    systems, numbers = [asdict(record) for record in records], features.numbers.tolist()
    tensor.set_info(INFO, json.dumps({"systems": systems, "numbers": numbers, "manifest": features.manifest}))
    return tensor


def from_tensor_map(tensor: Any, structures: Structures | None = None) -> Features:
    """Return features from a TensorMap, rows sorted by system and atom.

    Args:
        tensor: a TensorMap of one block with samples that include system and atom.
        structures: the structures that its systems number, as of `latentcmp.extract`; optional for a TensorMap of
            `to_tensor_map`.

    Raises:
        InputError: the TensorMap does not have one dense row for every atom of the structures.
    """
    if len(tensor) != 1:
        raise InputError(f"the TensorMap has {len(tensor)} blocks, expected 1; merge them with keys_to_samples")
    block = tensor.block(0)
    names = list(block.samples.names)
    if len(block.values.shape) != 2 or not {"system", "atom"} <= set(names):
        shape = tuple(block.values.shape)
        raise InputError(f"the TensorMap has values {shape} of samples {names}, expected [n, D] of system, atom")
    records, numbers, manifest = _metadata(tensor, structures)
    samples = np.asarray(block.samples.values)
    system, atom = samples[:, names.index("system")], samples[:, names.index("atom")]
    order = np.lexsort((atom, system))
    ptr = offsets(records)
    expected = np.repeat(np.arange(len(records)), np.diff(ptr))
    complete = np.array_equal(system[order], expected)
    if not complete or not np.array_equal(atom[order], np.arange(ptr[-1]) - ptr[expected]):
        raise InputError(f"the TensorMap has {len(samples)} samples, expected one for each of the {ptr[-1]} atoms")
    values = torch.as_tensor(block.values)
    rows = values[torch.from_numpy(order).to(values.device)]
    ids = [record.id for record in records]
    return Features(rows, torch.from_numpy(ptr).to(rows.device), ids, numbers, manifest, records)


def _metadata(tensor: Any, structures: Structures | None) -> tuple[list[SystemRecord], torch.Tensor, Metadata]:
    """The records of the systems, the atomic numbers of their atoms, and the manifest."""
    if structures is not None:
        systems = read_systems(structures)
        numbers = np.concatenate([system.atoms.numbers for system in systems])
        return [system.record for system in systems], torch.from_numpy(numbers).long(), {}
    text = tensor.get_info(INFO)
    if text is None:
        raise InputError("the TensorMap does not say which structures its systems are; give the structures too")
    content = json.loads(text)
    records = [SystemRecord(**record) for record in content["systems"]]
    return records, torch.tensor(content["numbers"], dtype=torch.int64), content["manifest"]


def _metatensor() -> Any:
    try:
        import metatensor
    except ImportError as error:
        raise MissingPackageError(
            "a TensorMap needs the package metatensor-core, which is not installed; run: pip install metatensor-core"
        ) from error
    return metatensor
