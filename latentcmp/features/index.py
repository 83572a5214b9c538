"""The index of a directory of features. It is written last: a directory without it is incomplete."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from latentcmp._runtime.files import atomic_write
from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError
from latentcmp.systems.system import SystemRecord

FORMAT = "latentcmp-features-1"
INDEX = "index.json"


@dataclass(frozen=True)
class FeatureShard:
    """One file of features: the numbers of its systems and atoms, and the digest of its content."""

    n_systems: int
    n_atoms: int
    digest: str


@dataclass(frozen=True)
class Index:
    """The content of index.json.

    Attributes:
        request: model, layer, structures and options of the extraction.
        manifest: metadata of the features.
        width: columns of the features.
        dtype: name of the dtype of the features, as "float32".
        systems: records of the systems, in the order of the rows.
        shards: the files, in the order of the rows.
    """

    request: Metadata
    manifest: Metadata
    width: int
    dtype: str
    systems: list[SystemRecord]
    shards: list[FeatureShard]

    def write(self, directory: Path) -> None:
        """Write index.json atomically. Raises InputError where it cannot be written."""
        content = {
            "format": FORMAT,
            "request": self.request,
            "manifest": self.manifest,
            "width": self.width,
            "dtype": self.dtype,
            "systems": _columns(self.systems, SystemRecord),
            "shards": _columns(self.shards, FeatureShard),
        }
        with atomic_write(directory / INDEX) as temporary:
            temporary.write_text(json.dumps({**content, "digest": _digest(content)}, indent=1), encoding="ascii")

    @classmethod
    def read(cls, directory: Path) -> "Index":
        """Read index.json. Raises InputError where it is missing, damaged or of another version."""
        path = directory / INDEX
        try:
            content = json.loads(path.read_text(encoding="ascii"))
            form, digest = content.pop("format"), content.pop("digest")
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{path} is not a complete index of features: {type(error).__name__}: {error}") from error
        if form != FORMAT:
            raise InputError(f"{path} is of format {form!r}, expected {FORMAT!r}; extract the features again")
        if digest != _digest({"format": form, **content}):
            raise InputError(f"{path} is damaged: its content does not match its digest; extract the features again")
        systems, shards = _rows(content.pop("systems"), SystemRecord), _rows(content.pop("shards"), FeatureShard)
        return cls(**content, systems=systems, shards=shards)


def shard_name(number: int, n_shards: int) -> str:
    """Return the file name of a shard, counted from 1."""
    return f"features-{number:05d}-of-{n_shards:05d}.safetensors"


def _columns(records: Sequence[Any], kind: type) -> dict[str, list[Any]]:
    rows = [asdict(record) for record in records]
    return {field.name: [row[field.name] for row in rows] for field in fields(kind)}


def _rows(columns: dict[str, list[Any]], kind: type) -> list[Any]:
    names = [field.name for field in fields(kind)]
    return [kind(*values) for values in zip(*(columns[name] for name in names), strict=True)]


def _digest(content: Metadata) -> str:
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
