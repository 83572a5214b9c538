"""Opening stored features: directories that `latentcmp extract` writes, and other layouts."""

from pathlib import Path

from latentcmp.errors import InputError
from latentcmp.features.index import INDEX
from latentcmp.features.npy import NpyFeatures
from latentcmp.features.store import FeatureStore
from latentcmp.features.stored import StoredFeatures
from latentcmp.features.writer import SHARDS
from latentcmp.models.registry import cards

PREFIX = "features:"
VALUES = "values.npy"


def is_features(text: str) -> bool:
    """Whether an argument is stored features, not a model.

    It is with the prefix `features:`. Without, it is unless it is the name of a model, where the directory holds
    features, or where a path separator shows that a path is meant.
    """
    if text.startswith(PREFIX):
        return True
    if text in cards():
        return False
    return _holds_features(Path(text)) or (":" not in text and len(Path(text).parts) > 1)


def features_path(text: str) -> Path:
    """The directory of an argument for which `is_features` holds."""
    return Path(text.removeprefix(PREFIX))


def open_features(path: str | Path) -> StoredFeatures:
    """Open the features in a directory, which are then read structure by structure.

    Args:
        path: a directory written by `latentcmp extract` (index.json) or one of .npy files (`latentcmp.features.npy`).

    Raises:
        InputError: the directory is neither, or is incomplete or damaged; the message names the file.
    """
    directory = Path(path)
    if (directory / INDEX).is_file():
        return FeatureStore.open(directory)
    if (directory / VALUES).is_file():
        return NpyFeatures.open(directory)
    if not directory.is_dir():
        raise InputError(f"{directory} is no directory of features; `latentcmp extract` writes them")
    if any(directory.glob(SHARDS)):
        raise InputError(f"{directory} holds features without {INDEX}: the extraction did not end; run it again")
    raise InputError(f"{directory} holds no features: neither {INDEX} nor {VALUES}; `latentcmp extract` writes them")


def _holds_features(directory: Path) -> bool:
    """Whether a directory holds complete features, or the files of an extraction that did not end."""
    return any((directory / name).is_file() for name in (INDEX, VALUES)) or any(directory.glob(SHARDS))
