"""A part of a comparison in a file of its own, and the comparison from all of its parts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from latentcmp.comparison.accumulate import ComparisonAccumulator
from latentcmp.errors import InputError
from latentcmp.statistics.storage import prefixed, read_statistics, under, write_statistics

KIND = "a shard of a comparison"
Packed = tuple[dict[str, Tensor], dict[str, Any]]


class Shard(NamedTuple):
    """Part `number` (from 1) of `count` parts of a comparison."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From 3/64. Raises InputError for anything else."""
        first, slash, last = text.partition("/")
        if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise InputError(f"a shard is given as NUMBER/COUNT, from 1/COUNT to COUNT/COUNT, got {text!r}")
        return cls(int(first), int(last))

    def blocks(self, n_blocks: int) -> range:
        """The blocks of this part: neighbours, so that a shard holds few nodes of the tree."""
        return range(n_blocks * (self.number - 1) // self.of, n_blocks * self.number // self.of)

    def path(self, directory: Path) -> Path:
        return directory / f"shard-{self.number:04d}-of-{self.of:04d}.safetensors"


def write_shard(
    directory: Path, shard: Shard, manifest: dict[str, Any], collected: ComparisonAccumulator | None
) -> Path:
    """Write what a shard has gathered (None: it had no block), whole or not at all."""
    tensors, known = pack(manifest, collected)
    directory.mkdir(parents=True, exist_ok=True)
    path = shard.path(directory)
    write_statistics(path, KIND, tensors, known | {"shard": shard})
    return path


def is_done(directory: Path, shard: Shard, manifest: dict[str, Any]) -> bool:
    """Whether the file of a shard is there and whole. Raises InputError where it is one of another comparison."""
    path = shard.path(directory)
    try:
        _, known = read_statistics(path, KIND)
    except InputError:
        return False  # not there, or damaged: to be written anew
    _check_same(path, known, "this one", {"manifest": json.loads(json.dumps(manifest)), "shard": shard})
    return True


def merge_shards(directories: Sequence[Path], partial: bool = False) -> ComparisonAccumulator:
    """Everything that the shards in some directories have gathered.

    Raises InputError for files that are damaged or of different comparisons, for a shard that is there twice, and,
    unless `partial`, for a set that is not whole.
    """
    paths = [path for directory in directories for path in sorted(directory.glob("shard-*-of-*.safetensors"))]
    seen: dict[Shard, Path] = {}
    whole: ComparisonAccumulator | None = None
    first: dict[str, Any] = {}
    for path in paths:
        tensors, known = read_statistics(path, KIND)
        shard = Shard(*known["shard"])
        first = first or known
        _check_same(path, known, str(paths[0]), first)
        if shard in seen:
            raise InputError(f"shard {shard.number} of {shard.of} is there twice: {seen[shard]} and {path}")
        seen[shard] = path
        whole = merged(whole, unpack(tensors, known))
    missing = sorted({number for _, of in seen for number in range(1, of + 1)} - {shard.number for shard in seen})
    if whole is None or (missing and not partial):
        found = _missing(missing) if missing else "there is no shard"
        where = ", ".join(map(str, directories))
        raise InputError(f"{found} in {where}; make them with compare --shard, or merge what is there with --partial")
    if missing:
        whole.manifest = whole.manifest | {"missing_shards": missing}
    return whole


def _missing(numbers: list[int]) -> str:
    named = ", ".join(map(str, numbers))
    return f"shards {named} are missing" if len(numbers) > 1 else f"shard {named} is missing"


def merged(whole: ComparisonAccumulator | None, part: ComparisonAccumulator | None) -> ComparisonAccumulator | None:
    """Both together, where there are both."""
    if whole is not None and part is not None:
        whole.merge(part)
    return whole or part


def pack(manifest: dict[str, Any], collected: ComparisonAccumulator | None) -> Packed:
    """What was gathered as tensors on the CPU, and what is known of it; `unpack` is the way back."""
    if collected is None:
        return {}, {"manifest": manifest, "layers": {}, "names": {}}
    tensors = prefixed("atoms", collected.atoms.tensors()) | prefixed("structures", collected.structures.tensors())
    return tensors, {"manifest": manifest, "layers": collected.layers, "names": collected.names}


def unpack(tensors: dict[str, Tensor], known: dict[str, Any]) -> ComparisonAccumulator | None:
    """What `pack` packed; None where nothing had been gathered."""
    if not known["layers"]:
        return None
    found = ComparisonAccumulator(known["manifest"], known["layers"])
    found.names = {int(number): name for number, name in known["names"].items()}
    found.atoms.load_tensors(under("atoms", tensors))
    found.structures.load_tensors(under("structures", tensors))
    return found


def _check_same(path: Path, known: dict[str, Any], other: str, expected: dict[str, Any]) -> None:
    """Raise InputError naming what differs between two comparisons."""
    mine, theirs = (_flat(found["manifest"]) | {"shards": found["shard"][1]} for found in (known, expected))
    differing = [key for key in theirs if mine.get(key) != theirs[key]]
    if differing:
        key = "config.models" if "config.models" in differing else differing[0]
        raise InputError(
            f"{path} is of another comparison than {other}: {key} is {mine.get(key)!r}, not {theirs[key]!r}; shards go "
            "together only when made of the same models, structures and options"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by the path to them."""
    found: dict[str, Any] = {}
    for name, branch in tree.items():
        found |= _flat(branch, f"{prefix}{name}.") if isinstance(branch, Mapping) else {f"{prefix}{name}": branch}
    return found
