"""Damaged files of statistics: always an error with the file's name, never a crash or another number."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from latentcmp.errors import InputError
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.row_keys import row_keys
from latentcmp.statistics.row_sample import AtomSample
from latentcmp.statistics.storage import write_statistics

WIDTHS = {"a": 3, "b": 4}


def joint_statistics() -> JointStatistics:
    rng = np.random.default_rng(0)
    statistics = JointStatistics(WIDTHS)
    rows = {name: torch.from_numpy(rng.normal(size=(60, width))) for name, width in WIDTHS.items()}
    statistics.update(rows, torch.from_numpy(rng.integers(3, size=60)))
    statistics.compact()
    return statistics


def atom_sample() -> AtomSample:
    sample = AtomSample(WIDTHS, 8)
    sample.update(row_keys(["s"], [30]), {name: torch.randn(30, width) for name, width in WIDTHS.items()})
    return sample


KINDS = {"joint": (joint_statistics, JointStatistics.load), "sample": (atom_sample, AtomSample.load)}


@pytest.fixture(params=KINDS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[Path], object]]:
    """A file of statistics and what reads it."""
    make, load = KINDS[request.param]
    path = tmp_path / "statistics.safetensors"
    make().save(path)
    return path, load


def refused(path: Path, load: Callable[[Path], object], content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"statistics\.safetensors"):
        load(path)


def test_every_truncation_is_refused(stored: tuple[Path, Callable[[Path], object]]) -> None:
    whole = stored[0].read_bytes()
    for length in {*range(0, 20), *range(20, len(whole), 37), len(whole) - 1}:
        refused(*stored, whole[:length])
    refused(*stored, whole + b"\0")


def test_flipped_bits_are_refused(stored: tuple[Path, Callable[[Path], object]]) -> None:
    whole = stored[0].read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    everywhere = rng.integers(len(whole), size=150)
    for position in [*range(0, header, 3), *everywhere.tolist()]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        refused(*stored, bytes(damaged))


def test_exchanged_and_zeroed_blocks_are_refused(stored: tuple[Path, Callable[[Path], object]]) -> None:
    whole = stored[0].read_bytes()
    half = len(whole) // 2
    refused(*stored, whole[half:] + whole[:half])
    refused(*stored, whole[:-64] + bytes(64))
    refused(*stored, whole[:-128] + whole[-64:] + whole[-128:-64])


def test_another_version_and_swapped_tensors_are_refused(stored: tuple[Path, Callable[[Path], object]]) -> None:
    path, load = stored
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    first, second = list(tensors)[:2]
    altered = [
        (tensors, {**header, "format": "latentcmp-statistics-1"}),
        (tensors, {**header, "known": header["known"].replace('"b": 4', '"b": 5')}),
        (tensors, {}),
        ({**tensors, first: tensors[second], second: tensors[first]}, header),
        ({**tensors, first: tensors[first].to(torch.float16)}, header),
        ({name: tensor for name, tensor in tensors.items() if name != first}, header),
    ]
    for held, known in altered:
        save_file({name: tensor.clone() for name, tensor in held.items()}, path, known)
        with pytest.raises(InputError, match=r"statistics\.safetensors"):
            load(path)


def test_whole_files_of_other_tensors_are_refused(tmp_path: Path) -> None:
    path, statistics = tmp_path / "statistics.safetensors", joint_statistics()
    state = statistics.state_dict()
    metadata, total = state.pop("metadata"), state["test/total"]
    for changed in (
        {"test/total": total[1:]},
        {"test/total": total.float()},
        {"counts": state["counts"].double()},
        {"test/pending": torch.zeros(5000, len(total), dtype=torch.float64)},
        {"more": state["pivot"] + 1},
    ):
        write_statistics(path, "joint statistics", {**state, **changed}, metadata)
        with pytest.raises(InputError, match=r"statistics\.safetensors cannot be loaded: the state holds tensors"):
            JointStatistics.load(path)
    del state["counts"]
    write_statistics(path, "joint statistics", state, metadata)
    with pytest.raises(InputError, match=r"statistics\.safetensors cannot be loaded: the state holds tensors"):
        JointStatistics.load(path)


def test_the_other_kind_and_no_file_are_refused(stored: tuple[Path, Callable[[Path], object]], tmp_path: Path) -> None:
    path, load = stored
    for other_make, other_load in KINDS.values():
        if other_load != load:
            other_make().save(path)
            with pytest.raises(InputError, match=r"holds .*, expected"):
                load(path)
    for nowhere in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            load(nowhere)


def test_a_failed_save_leaves_the_earlier_file(stored: tuple[Path, Callable[[Path], object]]) -> None:
    path, load = stored
    before = path.read_bytes()
    with pytest.raises(InputError, match="cannot be written"):
        joint_statistics().save(path / "below" / "a" / "file")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    load(path)
