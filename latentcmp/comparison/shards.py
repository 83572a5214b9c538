"""Shards: the statistics of part of the blocks of a comparison in a file, and their merge."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from latentcmp._runtime.types import Metadata
from latentcmp.comparison.accumulate import ComparisonAccumulator
from latentcmp.comparison.noise import FeatureNoise
from latentcmp.errors import InputError
from latentcmp.statistics.storage import prefixed, read_statistics, under, write_statistics
from latentcmp.systems.group_folds import GroupFolds

KIND = "a shard of a comparison"
Packed = tuple[dict[str, Tensor], Metadata]


class Shard(NamedTuple):
    """Part `number` (from 1) of the `of` parts of a comparison."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse NUMBER/COUNT, as in 3/64. Raises InputError for anything else."""
        first, slash, last = text.partition("/")
        if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise InputError(f"a shard is given as NUMBER/COUNT, from 1/COUNT to COUNT/COUNT, got {text!r}")
        return cls(int(first), int(last))

    def blocks(self, n_blocks: int) -> range:
        """The blocks of this shard: consecutive ones, so that it holds few nodes of the merge tree."""
        return range(n_blocks * (self.number - 1) // self.of, n_blocks * self.number // self.of)

    def path(self, directory: Path) -> Path:
        """The file of this shard in a directory."""
        return directory / f"shard-{self.number:04d}-of-{self.of:04d}.safetensors"


def write_shard(directory: Path, shard: Shard, manifest: Metadata, accumulator: ComparisonAccumulator | None) -> Path:
    """Write the accumulator of a shard (None: it had no block) in an atomic write, and return the path."""
    tensors, metadata = pack(manifest, accumulator)
    directory.mkdir(parents=True, exist_ok=True)
    path = shard.path(directory)
    write_statistics(path, KIND, tensors, metadata | {"shard": shard})
    return path


def is_done(directory: Path, shard: Shard, manifest: Metadata) -> bool:
    """Whether the file of a shard exists and is complete. Raises InputError if it is of another comparison."""
    path = shard.path(directory)
    try:
        _, metadata = read_statistics(path, KIND)
    except InputError:
        return False  # missing or damaged: to be written again
    _check_same(path, metadata, "this one", {"manifest": json.loads(json.dumps(manifest)), "shard": shard})
    return True


def merge_shards(directories: Sequence[Path], partial: bool = False) -> ComparisonAccumulator:
    """Merge the shards in some directories.

    Args:
        directories: directories that `latentcmp compare --shard` wrote to.
        partial: merge the shards present where others are missing; the manifest then lists `missing_shards`.

    Raises:
        InputError: files are damaged or of different comparisons, a shard is present twice, or shards are missing and
            `partial` is not set.
    """
    paths = [path for directory in directories for path in sorted(directory.glob("shard-*-of-*.safetensors"))]
    seen: dict[Shard, Path] = {}
    whole: ComparisonAccumulator | None = None
    first: Metadata = {}
    for path in paths:
        tensors, metadata = read_statistics(path, KIND)
        shard = Shard(*metadata["shard"])
        first = first or metadata
        _check_same(path, metadata, str(paths[0]), first)
        if shard in seen:
            raise InputError(f"shard {shard.number} of {shard.of} is present twice: {seen[shard]} and {path}")
        seen[shard] = path
        whole = merged(whole, unpack(tensors, metadata))
    missing = sorted({number for _, of in seen for number in range(1, of + 1)} - {shard.number for shard in seen})
    if whole is None or (missing and not partial):
        problem = _missing(missing) if missing else "there is no shard"
        where = ", ".join(map(str, directories))
        raise InputError(f"{problem} in {where}; make them with compare --shard, or merge those present with --partial")
    if missing:
        whole.manifest = whole.manifest | {"missing_shards": missing}
    return whole


def _missing(numbers: list[int]) -> str:
    named = ", ".join(map(str, numbers))
    return f"shards {named} are missing" if len(numbers) > 1 else f"shard {named} is missing"


def merged(whole: ComparisonAccumulator | None, part: ComparisonAccumulator | None) -> ComparisonAccumulator | None:
    """Merge `part` into `whole`, where either may be None."""
    if whole is not None and part is not None:
        whole.merge(part)
    return whole or part


def pack(manifest: Metadata, accumulator: ComparisonAccumulator | None) -> Packed:
    """The tensors of an accumulator, on the CPU, and its metadata; `unpack` is the inverse."""
    if accumulator is None:
        return {}, {"manifest": manifest, "layers": {}, "names": {}, "noise": {}, "folds": {}}
    tensors = prefixed("atoms", accumulator.atoms.tensors())
    tensors |= prefixed("structures", accumulator.structures.tensors())
    noise = accumulator.noise.metadata()
    return tensors, {
        "manifest": manifest,
        "layers": accumulator.layers,
        "names": accumulator.names,
        "noise": noise,
        "folds": {kind: folds.fold_of_block for kind, folds in accumulator.folds.items()},
    }


def unpack(tensors: dict[str, Tensor], metadata: Metadata) -> ComparisonAccumulator | None:
    """The accumulator that `pack` packed; None where it was None."""
    if not metadata["layers"]:
        return None
    folds = {kind: GroupFolds(tuple(blocks)) for kind, blocks in metadata["folds"].items()}
    accumulator = ComparisonAccumulator(metadata["manifest"], metadata["layers"], folds)
    accumulator.names = {int(number): name for number, name in metadata["names"].items()}
    accumulator.noise = FeatureNoise(metadata["noise"])
    accumulator.atoms.load_tensors(under("atoms", tensors))
    accumulator.structures.load_tensors(under("structures", tensors))
    return accumulator


def _check_same(path: Path, metadata: Metadata, other: str, expected: Metadata) -> None:
    """Raise InputError naming what differs between two comparisons."""
    mine, theirs = (_flat(of["manifest"]) | {"shards": of["shard"][1]} for of in (metadata, expected))
    differing = [key for key in theirs if mine.get(key) != theirs[key]]
    if differing:
        key = "config.models" if "config.models" in differing else differing[0]
        raise InputError(
            f"{path} is of another comparison than {other}: {key} is {mine.get(key)!r}, not {theirs[key]!r}; shards "
            "merge only when made of the same models, structures and options"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Metadata:
    """The leaves of nested mappings by the path to them."""
    leaves: Metadata = {}
    for name, branch in tree.items():
        leaves |= _flat(branch, f"{prefix}{name}.") if isinstance(branch, Mapping) else {f"{prefix}{name}": branch}
    return leaves
