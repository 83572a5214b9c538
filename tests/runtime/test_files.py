"""Atomic writes: whole or not at all, whatever interrupts them."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentcmp._runtime.files import (
    TEMPORARY,
    atomic_directory,
    atomic_files,
    atomic_write,
    read_tensors,
    remove_temporaries,
    write_tensors,
)
from latentcmp.errors import InputError

Writer = Callable[[Path], AbstractContextManager[Path]]
needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold for root")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path, stop: type[BaseException]) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(stop), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise stop
    assert names(tmp_path) == {"a.txt"}
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_an_interrupted_directory_does_not_appear(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), atomic_directory(tmp_path / "a") as temporary:
        (temporary / "part").write_text("half")
        raise stop
    assert names(tmp_path) == set()


def test_a_complete_file_replaces_the_old_one_with_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "a.png").write_text("old")
    with atomic_write(tmp_path / "a.png") as temporary:
        assert (temporary.suffix, temporary.parent) == (".png", tmp_path)
        temporary.write_text("new")
        assert (tmp_path / "a.png").read_text() == "old"
    assert names(tmp_path) == {"plain", "a.png"}
    assert (tmp_path / "a.png").read_text() == "new"
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_complete_directory_appears_with_its_parents(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "parent" / "a") as temporary:
        (temporary / "file").write_text("whole")
        assert not (tmp_path / "parent" / "a").exists()
    assert (tmp_path / "parent" / "a" / "file").read_text() == "whole"
    assert names(tmp_path / "parent") == {"a"}
    with pytest.raises(InputError, match="a exists already"), atomic_directory(tmp_path / "parent" / "a"):
        pass


def test_several_files_are_put_in_place_together_or_not_at_all(tmp_path: Path) -> None:
    for name in ("a", "b", "other"):
        (tmp_path / name).write_text("old")
    message = f"{tmp_path} cannot be written: disk full"
    with pytest.raises(InputError, match=message), atomic_files(tmp_path, ["a", "b"]) as temporary:
        (temporary / "a").write_text("half")
        raise OSError("disk full")
    assert [(tmp_path / name).read_text() for name in ("a", "b", "other")] == ["old"] * 3
    with atomic_files(tmp_path, ["a", "b"]) as temporary:
        for name in ("a", "b"):
            (temporary / name).write_text("new")
    assert [(tmp_path / name).read_text() for name in ("a", "b", "other")] == ["new", "new", "old"]
    assert names(tmp_path) == {"a", "b", "other"}


@pytest.mark.parametrize("write", [atomic_write, atomic_directory])
def test_a_path_under_a_file_is_named(tmp_path: Path, write: Writer) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "a.txt"
    with pytest.raises(InputError, match=rf"{target} cannot be written: Not a directory"), write(target) as temporary:
        temporary.write_text("x")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "a.txt"
    with pytest.raises(InputError, match=f"{target} cannot be written: No such file"), atomic_write(target) as path:
        path.write_text("x")
    with pytest.raises(InputError, match=rf"{target} cannot be written: .*No such file"):
        write_tensors(target, {"x": torch.ones(2)}, {}, "form")


@needs_permissions
@pytest.mark.parametrize("write", [atomic_write, atomic_directory])
def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path, write: Writer) -> None:
    tmp_path.chmod(0o500)
    try:
        with (
            pytest.raises(InputError, match=rf"{tmp_path}/a cannot be written: Permission"),
            write(tmp_path / "a") as t,
        ):
            t.write_text("x")
    finally:
        tmp_path.chmod(0o700)


def test_a_target_that_is_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "kept").mkdir(parents=True)
    with pytest.raises(InputError, match="a cannot be written: Is a directory"), atomic_write(tmp_path / "a") as path:
        path.write_text("x")
    assert names(tmp_path) == {"a"}


WRITER = """
import sys
from pathlib import Path
from latentcmp._runtime.files import atomic_write
for _ in range(100):
    with atomic_write(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(sys.argv[2].encode() * int(sys.argv[3]))
"""


def test_two_processes_that_write_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    path, contents = tmp_path / "x", {b"1" * 300_000, b"2" * 200_000}
    path.write_bytes(b"1" * 300_000)
    sizes = (("1", "300000"), ("2", "200000"))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, *size], cwd=tmp_path) for size in sizes]
    while any(writer.poll() is None for writer in writers):
        assert path.read_bytes() in contents
    assert [writer.returncode for writer in writers] == [0, 0]
    assert path.read_bytes() in contents
    assert names(tmp_path) == {"x"}


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in (f"{TEMPORARY}0a-part-1.bin", f"{TEMPORARY}0a-other.bin", "part-1.bin"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, "part-*.bin")
    assert names(tmp_path) == {f"{TEMPORARY}0a-other.bin", "part-1.bin"}


def test_tensors_are_read_by_any_reader_of_safetensors(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1, 2], dtype=torch.int32)}
    digest = write_tensors(tmp_path / "x", tensors, {"key": [1, "文"]}, "form")
    for name, tensor in load_file(tmp_path / "x").items():
        assert torch.equal(tensor, tensors[name])
    read, metadata, again = read_tensors(tmp_path / "x", "form", "test file")
    assert (metadata, again) == ({"key": [1, "文"]}, digest)
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    with pytest.raises(InputError, match="is of format 'form', expected 'other'"):
        read_tensors(tmp_path / "x", "other", "test file")
    with pytest.raises(InputError, match=r"test file .*/y does not exist"):
        read_tensors(tmp_path / "y", "form", "test file")
