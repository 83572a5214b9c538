"""Checkpoints of a training against a reference: errors in both directions, one line a checkpoint."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentcmp._runtime.devices import choose_device
from latentcmp._version import __version__
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.from_matrices import compare_features
from latentcmp.errors import InputError, LatentcmpError
from latentcmp.features.data import Features
from latentcmp.features.extract import extract, structures_manifest
from latentcmp.measures.measure import ErrorName
from latentcmp.measures.similarity import effective_rank, linear_cka
from latentcmp.models.registry import FAMILIES, ModelSpec, check_available, identity, load, parse
from latentcmp.monitor.observation import DIRECTIONS, NOW, REFERENCE
from latentcmp.monitor.writers import write_csv
from latentcmp.statistics.joint import JointStatistics
from latentcmp.systems.folds import parts_of
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import Screening, screen
from latentcmp.systems.split import rows_by_group
from latentcmp.systems.system import in_canonical_order, set_hash

ERRORS: tuple[ErrorName, ...] = ("gfre", "lfre")
COLUMNS = (
    "checkpoint",
    "step",
    *(f"{m}_{d}{end}" for m in ERRORS for d in DIRECTIONS for end in ("", "_low", "_high")),
    "linear_cka",
    "effective_rank",
    "sha256",
    "settings",
)
STEP_PATTERNS = (r"(?:global_?)?step[=_-]?(\d+)", r"epoch[=_-]?(\d+)")
Line = dict[str, Any]


@dataclass(frozen=True)
class Drift:
    """Lines of the table in the order of steps, checkpoints that gave none with their reasons, the structures used."""

    lines: list[Line]
    failed: dict[str, str]
    structures: dict[str, Any]


def drift(
    checkpoints: Sequence[str],
    reference: str,
    structures: Structures | None = None,
    table: str | Path = "drift.csv",
    *,
    family: str | None = None,
    config: CompareConfig | None = None,
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Drift:
    """Errors between the features of every checkpoint and those of `reference`, written to the CSV file `table`.

    `checkpoints` are names, FAMILY:PATH, or with `family` paths; a folder stands for the files in it. Of `config`,
    layer, reduce, test fraction, seed, solver, device, batch_atoms and trust count. The table grows with every
    checkpoint; lines that an earlier run wrote under the same settings for the same bytes are kept. A checkpoint that
    does not load, or gives no finite features, is left out and named. Raises InputError for all else that is wrong.
    """
    config = config or CompareConfig.of()
    specs = [parse(text, config.layer) for text in expanded(checkpoints, family)]
    base = parse(reference, config.layer)
    for spec in (base, *specs):
        check_available(spec, config.trust)
    screening = screen(in_canonical_order(read_systems(structures)), [spec.card for spec in (base, *specs)])
    run = _Run(base, screening, config, Path(table))
    steps = steps_of([spec.checkpoint.name if spec.checkpoint else spec.label for spec in specs])
    missing = [(spec, step) for spec, step in zip(specs, steps, strict=True) if not run.knows(spec, step)]
    if run.lines:
        run.write()
    for done, (spec, step) in enumerate(missing):
        progress("errors of checkpoints", done, len(missing))
        run.measure(spec, step)
        progress("errors of checkpoints", done + 1, len(missing))
    return Drift(run.lines, run.failed, structures_manifest(screening))


def expanded(checkpoints: Iterable[str], family: str | None = None) -> list[str]:
    """Names as `parse` takes them: folders become their files in natural order, bare paths get their family."""
    found = []
    for text in checkpoints:
        head, colon, rest = text.partition(":")
        named, path = (head, Path(rest)) if colon and head in FAMILIES else (family, Path(text))
        if not path.exists():
            found.append(text)
        elif named is None:
            raise InputError(f"{path} is a path of an unknown family; give --family, one of {', '.join(FAMILIES)}")
        else:
            files = sorted(filter(_is_file, path.iterdir()), key=_natural) if path.is_dir() else [path]
            found += [f"{named}:{file}" for file in files]
    if not found:
        raise InputError(f"no checkpoints in {', '.join(checkpoints) or 'nothing'}")
    return list(dict.fromkeys(found))


def steps_of(names: Sequence[str]) -> list[int]:
    """Steps that the names state: after "step", else after "epoch", else their last number; else their order."""
    for pattern in STEP_PATTERNS:
        stated = [re.findall(pattern, name, re.IGNORECASE) for name in names]
        if all(stated):
            return [int(numbers[-1]) for numbers in stated]
    last = [re.findall(r"\d+", re.sub(r"(\.[a-zA-Z]\w*)+$", "", name)) for name in names]
    if all(last) and len({int(numbers[-1]) for numbers in last}) == len(names):
        return [int(numbers[-1]) for numbers in last]
    return list(range(len(names)))


class _Run:
    """The table as it grows; the reference's features are taken when the first checkpoint needs them."""

    def __init__(self, base: ModelSpec, screening: Screening, config: CompareConfig, table: Path) -> None:
        self._base, self._systems, self._config, self._table = base, screening.systems, config, table
        self._device = choose_device(config.device)
        self._settings = _settings(base, screening, config)
        self._earlier = {(line["sha256"], line["settings"]): line for line in _read(table)}
        self._reference: Features | None = None
        self.lines: list[Line] = []
        self.failed: dict[str, str] = {}

    def knows(self, spec: ModelSpec, step: int) -> bool:
        """Whether an earlier run has the checkpoint's line, which is then taken."""
        line = self._earlier.get(self._key(spec))
        if line is not None:
            self._add(line, spec, step)
        return line is not None

    def measure(self, spec: ModelSpec, step: int) -> None:
        """Run a checkpoint and add its line, or its failure; the table is written anew."""
        try:
            digest, settings = self._key(spec)
            self._add({**self._numbers(spec), "sha256": digest, "settings": settings}, spec, step)
            self.write()
        except LatentcmpError as error:
            self.failed[spec.label] = str(error)

    def write(self) -> None:
        """Write the table as far as it goes."""
        write_csv(self._table, COLUMNS, self.lines)

    def _add(self, line: Line, spec: ModelSpec, step: int) -> None:
        name = spec.checkpoint.name if spec.checkpoint else spec.label
        self.lines.append({**line, "checkpoint": name, "step": step})
        self.lines.sort(key=lambda line: line["step"])

    def _key(self, spec: ModelSpec) -> tuple[str, str]:
        """The bytes of a checkpoint, and a hash of all else that its line depends on."""
        digest = sha256(spec.checkpoint.read_bytes()).hexdigest() if spec.checkpoint else identity(spec)["sha256"]
        known = json.dumps([self._settings, spec.layer, spec.card.options], sort_keys=True)
        return digest, blake2b(known.encode(), digest_size=8).hexdigest()

    def _numbers(self, spec: ModelSpec) -> dict[str, float]:
        if self._reference is None:
            self._reference = self._features(self._base)
        return measured(self._reference, self._features(spec), self._config)

    def _features(self, spec: ModelSpec) -> Features:
        adapter = load(spec, self._device, self._config.trust)
        options: dict[str, Any] = {"reduce": self._config.reduce, "batch_atoms": self._config.batch_atoms}
        return extract(adapter, self._systems, spec.layer, self._device, on_unsupported="error", **options)


def measured(reference: Features, now: Features, config: CompareConfig) -> dict[str, float]:
    """Errors in both directions with their 90 % intervals, CKA, and the effective rank of the present."""
    matrices = {REFERENCE: reference.values, NOW: now.values}
    groups = [record.group for record in now.records for _ in range(len(record))]
    split: dict[str, Any] = {"test_fraction": config.tested, "seed": config.seed}
    comparison = compare_features(matrices, groups=groups, measures=ERRORS, solver=config.solver, **split)
    found: dict[str, float] = {}
    for matrix in comparison.atoms:
        for direction, (source, target) in DIRECTIONS.items():
            cell = matrix.summaries[matrix.names.index(source)][matrix.names.index(target)]
            for end, value in (("", cell.value), ("_low", cell.low), ("_high", cell.high)):
                found[f"{matrix.measure}_{direction}{end}"] = value
    statistics = JointStatistics({name: rows.shape[1] for name, rows in matrices.items()}, device=now.values.device)
    part = torch.from_numpy(parts_of(rows_by_group(groups, len(groups), **split)).astype(np.int64))
    statistics.update(matrices, part)
    found["linear_cka"] = float(linear_cka(statistics)[0, 1])
    found["effective_rank"] = float(effective_rank(statistics)[list(statistics.widths).index(NOW)])
    return found


def _settings(base: ModelSpec, screening: Screening, config: CompareConfig) -> dict[str, Any]:
    """What every line depends on besides its own checkpoint."""
    return {
        "reference": identity(base) | {"layer": base.layer},
        "structures": set_hash(screening.systems),
        "config": config.model_dump(include={"reduce", "test_fraction", "seed", "solver"}),
        "version": __version__,
    }


def _read(table: Path) -> list[Line]:
    """The lines of an earlier run, their numbers as numbers. Raises InputError for a file of another kind."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    text = ("checkpoint", "sha256", "settings")
    try:
        return [{name: line[name] if name in text else float(line[name]) for name in COLUMNS} for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{table} is no table of `latentcmp drift`; move it, or give another -o") from error


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers inside names in the order of numbers: epoch9 before epoch10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
