"""Atomic writes of files and directories, and safetensors files whose content is checked against a digest."""

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from shutil import rmtree

import torch
from torch import Tensor

from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError

TEMPORARY = ".latentcmp-"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: an existing file is replaced only by a complete one.

    The block writes to the temporary path that it is given, in the same directory and with the same suffix; the file
    is moved to `path` when the block ends, and removed where the block raises, also for a `KeyboardInterrupt`.

    Nothing is synchronised to the disk: what was written survives the end of the process by any signal, and what a
    power failure costs can be computed again, where `fsync` costs every write 10 ms and more.

    Args:
        path: the file to write; its directory must exist.

    Yields:
        The temporary path.

    Raises:
        InputError: the file cannot be written.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as directory:
        ...     with atomic_write(f"{directory}/result.txt") as temporary:
        ...         _ = temporary.write_text("complete")
        ...     print([file.name for file in Path(directory).iterdir()])
        ['result.txt']
    """
    path = Path(path)
    temporary = _temporary_path(path)
    with _removed_at_the_end(temporary, path):
        yield temporary
        os.replace(temporary, path)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Write a new directory atomically: it appears under its name only when it is complete.

    Args:
        path: the directory to write, which must not exist; missing parents are made.

    Yields:
        An empty temporary directory beside `path`.

    Raises:
        InputError: the directory exists or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists already; give a directory that does not")
    temporary = _temporary_path(path)
    with _removed_at_the_end(temporary, path):
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)


@contextmanager
def atomic_files(directory: str | Path, names: Iterable[str]) -> Iterator[Path]:
    """Write several files into a directory: none is put in place before all of them are complete.

    Args:
        directory: the directory of the files; it is made where it is missing.
        names: the files, in the order in which they are put in place.

    Yields:
        An empty temporary directory, in which the block writes files of these names.

    Raises:
        InputError: the files cannot be written.
    """
    directory = Path(directory)
    temporary = _temporary_path(directory / "files")
    with _removed_at_the_end(temporary, directory):
        temporary.mkdir(parents=True)
        yield temporary
        for name in names:
            os.replace(temporary / name, directory / name)


def remove_temporaries(directory: Path, pattern: str) -> None:
    """Remove the temporary files that killed writers of files named like `pattern` left in a directory."""
    for path in directory.glob(f"{TEMPORARY}*-{pattern}"):
        path.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: Metadata, form: str) -> str:
    """Write tensors and metadata to a safetensors file atomically.

    Args:
        path: the file to write.
        tensors: tensors by name, on any device.
        metadata: what JSON can hold.
        form: name and version of the format.

    Returns:
        The digest of the tensors and the metadata.

    Raises:
        InputError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    on_cpu = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps(metadata)
    digest = _digest(on_cpu, text)
    with atomic_write(path) as temporary:
        try:
            save_file(on_cpu, temporary, {"format": form, "known": text, "digest": digest})
        except SafetensorError as error:
            raise OSError(str(error)) from error
    return digest


def read_tensors(path: Path, form: str, kind: str) -> tuple[dict[str, Tensor], Metadata, str]:
    """Read a file of `write_tensors`.

    Args:
        path: the file to read.
        form: name and version of the format that is expected.
        kind: name of such a file in messages.

    Returns:
        The tensors by name, on the CPU, the metadata, and the digest of both.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{kind} {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is not a complete {kind}: {error}") from error
    if header.get("format") != form:
        raise InputError(f"{path} is of format {header.get('format')!r}, expected {form!r}; write it again")
    if header.get("digest") != _digest(tensors, header.get("known", "")):
        raise InputError(f"{path} is damaged: its content does not match its digest; write it again")
    return tensors, json.loads(header["known"]), header["digest"]


@contextmanager
def _removed_at_the_end(temporary: Path, path: Path) -> Iterator[None]:
    """Remove a temporary path after the block; an OSError becomes an InputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # absent after os.replace, and where its directory is missing
            rmtree(temporary) if temporary.is_dir() else temporary.unlink()


def _temporary_path(path: Path) -> Path:
    """A path of its own in the same directory; writers that choose a format by the suffix see that of `path`."""
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}-{path.name}")


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """A hash of the metadata, and of the name, dtype, shape and bytes of every tensor."""
    state = blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
