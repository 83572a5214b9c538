"""Errors between the checkpoints of a training and a reference, in both directions."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from latentcmp._runtime.devices import choose_device
from latentcmp._runtime.types import Metadata
from latentcmp._version import __version__
from latentcmp.comparison.checkpoint_names import expanded, steps_of
from latentcmp.comparison.checkpoint_table import ERRORS, Line, read_table, write_table
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.from_matrices import compare_features
from latentcmp.errors import LatentcmpError
from latentcmp.features.data import Features
from latentcmp.features.extract import extract, structures_manifest
from latentcmp.measures.strength_search import LEAST_DRIFT, LEAST_LOCAL_DRIFT, default_strengths
from latentcmp.models.registry import ModelSpec, check_available, identity, load, parse
from latentcmp.monitor.observation import DIRECTIONS, NOW, REFERENCE
from latentcmp.systems.read import Structures, read_systems
from latentcmp.systems.screen import Screening, screen
from latentcmp.systems.system import in_canonical_order, set_hash

SIMILARITIES = ("linear_cka", "effective_rank")


@dataclass(frozen=True)
class Drift:
    """The result of `drift`.

    Attributes:
        lines: lines of the table in the order of steps.
        failed: reason of failure of each checkpoint that has no line.
        structures: metadata of the structures.
    """

    lines: list[Line]
    failed: dict[str, str]
    structures: Metadata


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
    """Compute errors between the features of every checkpoint and those of `reference`.

    The table is written after every checkpoint; lines that an earlier run wrote with the same settings for the same
    file content are kept.

    Args:
        checkpoints: names, FAMILY:PATH, or with `family` paths; a folder stands for the files in it.
        reference: name or FAMILY:PATH of the reference.
        structures: a path, several paths or a list of Atoms; None for the built-in set.
        table: CSV file.
        family: family of bare paths.
        config: layer, reduce, seed, solver, device, batch_atoms and trust are used.
        progress: called with a label, the number of checkpoints done and their total.

    Returns:
        The lines of the table, and the checkpoints that failed to load or gave values that are not finite.

    Raises:
        InputError: no checkpoint, an unknown family, too few structures, or a table of another kind.
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


class _Run:
    """The table during a run; features of the reference are extracted when the first checkpoint needs them."""

    def __init__(self, base: ModelSpec, screening: Screening, config: CompareConfig, table: Path) -> None:
        self._base, self._systems, self._config, self._table = base, screening.systems, config, table
        self._device = choose_device(config.device)
        self._settings = _settings(base, screening, config)
        self._earlier = {(line["sha256"], line["settings"]): line for line in read_table(table)}
        self._reference: Features | None = None
        self.lines: list[Line] = []
        self.failed: dict[str, str] = {}

    def knows(self, spec: ModelSpec, step: int) -> bool:
        """Return whether an earlier run has the line of the checkpoint, and add it."""
        line = self._earlier.get(self._key(spec))
        if line is not None:
            self._add(line, spec, step)
        return line is not None

    def measure(self, spec: ModelSpec, step: int) -> None:
        """Run a checkpoint, add its line or its failure, and write the table."""
        try:
            digest, settings = self._key(spec)
            self._add({**self._numbers(spec), "sha256": digest, "settings": settings}, spec, step)
            self.write()
        except LatentcmpError as error:
            self.failed[spec.label] = str(error)

    def write(self) -> None:
        """Write the lines so far."""
        write_table(self._table, self.lines)

    def _add(self, line: Line, spec: ModelSpec, step: int) -> None:
        name = spec.checkpoint.name if spec.checkpoint else spec.label
        self.lines.append({**line, "checkpoint": name, "step": step})
        self.lines.sort(key=lambda line: line["step"])

    def _key(self, spec: ModelSpec) -> tuple[str, str]:
        """Digest of the file of a checkpoint, and of all other settings that its line depends on."""
        digest = sha256(spec.checkpoint.read_bytes()).hexdigest() if spec.checkpoint else identity(spec)["sha256"]
        settings = json.dumps([self._settings, spec.layer, spec.card.options], sort_keys=True)
        return digest, blake2b(settings.encode(), digest_size=8).hexdigest()

    def _numbers(self, spec: ModelSpec) -> dict[str, float]:
        if self._reference is None:
            self._reference = self._features(self._base)
        return measured(self._reference, self._features(spec), self._config)

    def _features(self, spec: ModelSpec) -> Features:
        adapter = load(spec, self._device, self._config.trust)
        options: dict[str, Any] = {"reduce": self._config.reduce, "batch_atoms": self._config.batch_atoms}
        return extract(adapter, self._systems, spec.layer, self._device, on_unsupported="error", **options)


def measured(reference: Features, now: Features, config: CompareConfig) -> dict[str, float]:
    """Return errors in both directions with 90 % intervals, linear CKA, and the effective rank of `now`."""
    matrices = {REFERENCE: reference.values, NOW: now.values}
    groups = [record.group for record in now.records for _ in range(len(record))]
    solver = config.regularised_by
    comparison = compare_features(
        matrices,
        groups=groups,
        measures=(*ERRORS, *SIMILARITIES),
        solver=solver,
        alphas=default_strengths(solver, LEAST_DRIFT),
        local_alphas=default_strengths(solver, LEAST_LOCAL_DRIFT),
        seed=config.seed,
    )
    found: dict[str, float] = {}
    for matrix in (comparison.atoms.pairs(name) for name in ERRORS):
        for direction, (source, target) in DIRECTIONS.items():
            cell = matrix.summaries[matrix.names.index(source)][matrix.names.index(target)]
            for end, value in (("", cell.value), ("_low", cell.low), ("_high", cell.high)):
                found[f"{matrix.measure}_{direction}{end}"] = value
    found["linear_cka"] = comparison.atoms.linear_cka[REFERENCE, NOW]
    found["effective_rank"] = comparison.atoms.effective_rank[NOW]
    return found


def _settings(base: ModelSpec, screening: Screening, config: CompareConfig) -> Metadata:
    """Settings that every line depends on besides its checkpoint."""
    return {
        "reference": identity(base) | {"layer": base.layer},
        "structures": set_hash(screening.systems),
        "config": config.model_dump(include={"reduce", "seed", "solver"}),
        "version": __version__,
    }
