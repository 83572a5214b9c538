"""Checkpoint files: their location, hash and trust, and loading that runs no code from them where possible."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from latentcmp.errors import InputError, MissingPackageError, UntrustedCheckpointError
from latentcmp.models.card import ModelCard


def package_folder(card: ModelCard) -> Path:
    """Return the folder of the card's package. Raises MissingPackageError with the pip command."""
    spec = find_spec(card.module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            f"{card.name} needs the package {card.package}, which is not installed; run: {card.pip}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def bundled_checkpoint(card: ModelCard, trust: bool = False) -> Path:
    """Return the path of the card's checkpoint in its package.

    Args:
        card: the card.
        trust: accept a file with another SHA-256 than the card's.

    Raises:
        MissingPackageError: the package is not installed.
        InputError: the package does not contain the checkpoint.
        UntrustedCheckpointError: the SHA-256 is not the card's, and `trust` is False.
    """
    path = package_folder(card) / card.checkpoint
    if not path.is_file():
        raise InputError(
            f"{card.package} is installed, but has no {card.checkpoint}; install the tested release: {card.pip}"
        )
    sha256 = file_sha256(path)
    if sha256 != card.sha256 and not trust:
        raise UntrustedCheckpointError(
            f"the checkpoint of {card.name} in {card.package} has sha256 {sha256}, expected {card.sha256}: another "
            "release, or a damaged file. Install the tested release, or pass --trust (trust=True) to use it"
        )
    return path


@cache
def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_weights(path: Path) -> Any:
    """Load a checkpoint of tensors and plain containers (`weights_only=True`). Raises InputError for other files."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch adds advice to disable its check, which is left out here
        reason = (str(error).partition("WeightsUnpickler error: ")[2] or str(error)).strip().partition("\n")[0]
        raise InputError(
            f"{path} cannot be loaded: it is damaged, or contains more than the tensors and plain containers that are "
            f"read from checkpoints ({type(error).__name__}: {reason.partition('. ')[0]})"
        ) from error


def require_trust(card: ModelCard, path: Path, trust: bool, reason: str) -> None:
    """Check that a file may be loaded in a way that can run code from it.

    Args:
        card: the card; its own checkpoint is trusted by its SHA-256.
        path: the file.
        trust: whether the user trusts the file.
        reason: why loading can run code, for the message.

    Raises:
        UntrustedCheckpointError: the file is not the card's, and `trust` is False.
    """
    if not trust and not _is_bundled(card, path):
        raise UntrustedCheckpointError(
            f"loading {path} as {card.family} {reason}, so the file can run any code; "
            "pass --trust (trust=True) if you trust its origin"
        )


def _is_bundled(card: ModelCard, path: Path) -> bool:
    return path.is_file() and file_sha256(path) == card.sha256
