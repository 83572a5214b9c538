"""Checkpoints on disk: found, hashed, and loaded without running code from them where that is possible."""

from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from latentcmp.errors import InputError, MissingPackageError, UntrustedCheckpointError
from latentcmp.models.card import ModelCard


def package_folder(card: ModelCard) -> Path:
    """Where the card's package is installed. Raises MissingPackageError with the pip command."""
    spec = find_spec(card.module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            f"{card.name} needs the package {card.package}, which is not installed; run: {card.pip}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def bundled_checkpoint(card: ModelCard, trust: bool = False) -> Path:
    """The card's checkpoint inside its package, checked by sha256 unless `trust`."""
    path = package_folder(card) / card.checkpoint
    if not path.is_file():
        raise InputError(
            f"{card.package} is installed, but holds no {card.checkpoint}; {card.pip} brings the one tested"
        )
    found = file_sha256(path)
    if found != card.sha256 and not trust:
        raise UntrustedCheckpointError(
            f"the checkpoint of {card.name} in {card.package} has sha256 {found}, expected {card.sha256}: another "
            "release, or a damaged file. Install the tested release, or pass --trust (trust=True) to use it as it is"
        )
    return path


@cache
def file_sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal."""
    return sha256(path.read_bytes()).hexdigest()


def load_weights(path: Path) -> Any:
    """A checkpoint's content, tensors and plain containers only (`weights_only=True`). Raises InputError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Torch wraps what it met in advice to switch its check off.
        told = (str(error).partition("WeightsUnpickler error: ")[2] or str(error)).strip().partition("\n")[0]
        raise InputError(
            f"{path} cannot be loaded: it is damaged, or holds more than the tensors and plain containers that are "
            f"read from checkpoints ({type(error).__name__}: {told.partition('. ')[0]})"
        ) from error


def require_trust(card: ModelCard, path: Path, trust: bool, reason: str) -> None:
    """Raise UntrustedCheckpointError for a file of the user's that only code from the file can open."""
    if not trust and not _is_bundled(card, path):
        raise UntrustedCheckpointError(
            f"loading {path} as {card.family} {reason}, so the file can run any code it holds; "
            "pass --trust (trust=True) if you know where it comes from"
        )


def _is_bundled(card: ModelCard, path: Path) -> bool:
    return path.is_file() and file_sha256(path) == card.sha256
