"""Features at rest: directories that `latentcmp extract` writes, and other layouts, read structure by structure."""

from pathlib import Path

from latentcmp.errors import InputError
from latentcmp.features.index import INDEX
from latentcmp.features.npy import NpyFeatures
from latentcmp.features.store import FeatureStore
from latentcmp.features.stored import StoredFeatures
from latentcmp.models.registry import cards


def is_features(text: str) -> bool:
    """Whether an argument that may name a model or a directory of features is the latter."""
    return text not in cards() and (Path(text).is_dir() or (":" not in text and len(Path(text).parts) > 1))


def open_features(path: str | Path) -> StoredFeatures:
    """The features in a directory: of latentcmp (index.json) or .npy files (`latentcmp.features.npy`).

    Raises InputError for a directory that is neither, unfinished or damaged; the message names the file.
    """
    directory = Path(path)
    if (directory / INDEX).is_file():
        return FeatureStore.open(directory)
    if (directory / "values.npy").is_file():
        return NpyFeatures.open(directory)
    if not directory.is_dir():
        raise InputError(f"{directory} is no directory of features; `latentcmp extract` writes them")
    if any(directory.glob("features-*.safetensors")):
        raise InputError(f"{directory} holds features without {INDEX}: the extraction did not end; run it again")
    raise InputError(f"{directory} holds no features: neither {INDEX} nor values.npy; `latentcmp extract` writes them")
