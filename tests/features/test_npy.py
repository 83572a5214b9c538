"""Plain .npy files in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.features.open import open_features
from latentcmp.features.stored import FeaturesInMemory

from .stored_cases import COUNTS, IDS, features


def write(directory: Path, **changes: np.ndarray | None) -> Path:
    """The files that another pipeline would leave, some of them changed."""
    given = features()
    files: dict[str, np.ndarray | None] = {
        "values": given.values.numpy(),
        "structures": np.repeat(["s1", "s0", "s2", "s3", "s4", "s5"], COUNTS),
        "numbers": given.numbers.numpy(),
    }
    directory.mkdir()
    for name, array in (files | changes).items():
        if array is not None:
            np.save(directory / f"{name}.npy", array)
    return directory


def test_what_is_written_is_read(tmp_path: Path) -> None:
    given = features()
    FeaturesInMemory("x", given).to_npy(tmp_path / "n")
    assert np.array_equal(np.load(tmp_path / "n" / "values.npy"), given.values.numpy())
    found = open_features(tmp_path / "n")
    assert found.label == "n"
    assert found.systems == given.systems
    assert torch.equal(found.numbers, given.numbers)
    assert torch.equal(found.rows(IDS[::-1]), FeaturesInMemory("x", given).rows(IDS[::-1]))
    with pytest.raises(InputError, match="exists already"):
        found.to_npy(tmp_path / "n")
    assert {path.name for path in tmp_path.iterdir()} == {"n"}


@pytest.mark.parametrize("layout", ["C", "F", "big-endian", "float16"])
def test_arrays_of_another_pipeline_are_read(tmp_path: Path, layout: str) -> None:
    values = features().values.numpy()
    changed = {
        "C": values,
        "F": np.asfortranarray(values),
        "big-endian": values.astype(">f4"),
        "float16": values.astype(np.float16),
    }[layout]
    found = open_features(write(tmp_path / "n", values=changed, structures=np.repeat(np.arange(6) + 10, COUNTS)))
    assert found.ids == ["10", "11", "12", "13", "14", "15"]
    assert np.array_equal(found.rows(found.ids).numpy(), changed)


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    given = features(dtype=torch.bfloat16)
    FeaturesInMemory("x", given).to_npy(tmp_path / "n")
    assert torch.equal(open_features(tmp_path / "n").rows(IDS), given.values.float())


def test_atoms_in_another_order_are_put_right(tmp_path: Path) -> None:
    given = features()
    order = np.concatenate([start + np.arange(count)[::-1] for start, count in zip(given.ptr, COUNTS, strict=False)])
    atoms = np.concatenate([np.arange(count)[::-1] for count in COUNTS])
    arrays = {"values": given.values.numpy()[order], "numbers": given.numbers.numpy()[order], "atoms": atoms}
    found = open_features(write(tmp_path / "n", **arrays))
    assert torch.equal(found.rows(found.ids), given.values)
    assert torch.equal(found.numbers, given.numbers)


def test_a_table_names_structures_and_groups(tmp_path: Path) -> None:
    directory = write(tmp_path / "n")
    (directory / "systems.csv").write_text("group,id,note\ng,s0,kept\nh,s4,\n", encoding="utf-8")
    assert [(s.id, s.group) for s in open_features(directory).systems][1::3] == [("s0", "g"), ("s4", "h")]


BAD = {
    "no numbers": ({"numbers": None}, r"numbers\.npy cannot be read"),
    "integers": ({"values": np.ones((17, 3), dtype=int)}, r"values\.npy holds int64 \(17, 3\), expected floats"),
    "empty": ({"values": np.ones((0, 3))}, r"values\.npy holds float64 \(0, 3\)"),
    "short": ({"numbers": np.ones(16, dtype=int)}, r"numbers\.npy holds int64 \(16,\), expected integers \[17\]"),
    "objects": ({"structures": np.array([None] * 17)}, r"structures\.npy cannot be read: .*[Oo]bject"),
    "atoms": ({"atoms": np.zeros(17, dtype=int)}, r"atoms\.npy: the atoms of structure 's1' are not 0, 1, 2"),
    "apart": ({"structures": np.array(["a", "b"] * 8 + ["c"])}, "structure id 'a' occurs twice in n"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_named(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message):
        open_features(write(tmp_path / "n", **changes))


def test_truncated_files_are_named(tmp_path: Path) -> None:
    for name in ("values", "structures", "numbers"):
        directory = write(tmp_path / name)
        path = directory / f"{name}.npy"
        whole = path.read_bytes()
        for length in (0, 5, 60, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=rf"{name}\.npy cannot be read"):
                open_features(directory)
