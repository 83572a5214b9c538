"""The pass over the structures: features of all sources, block by block, into statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from latentcmp._runtime.devices import copy_without_sync
from latentcmp._runtime.progress import Advance, Progress, Timing, counted
from latentcmp._runtime.settings import one_torch_thread
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.memory import affordable, available
from latentcmp.comparison.noise import FeatureNoise, NoiseByLabel
from latentcmp.comparison.plan import Plan
from latentcmp.comparison.sources import FeatureSource
from latentcmp.features.finite import FiniteCheck
from latentcmp.measures.baseline_rows import COMPOSITION_COLUMNS, COORDINATION_COLUMNS, RANDOM_SEEDS, random_columns
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.statistics.accumulator import RowAccumulator, RowLabels, Sampled, SampleSizes
from latentcmp.systems.descriptors import coordination, element_one_hot
from latentcmp.systems.group_folds import GroupFolds
from latentcmp.systems.system import System, SystemInfo, offsets


class ComparisonAccumulator:
    """Statistics of atoms and of structures, from which `finish` computes the comparison.

    Attributes:
        manifest: that of the plan.
        layers: metadata of the features by label, as the sources give it.
        names: ids of the structures, by their numbers, that sampled test rows belong to.
        noise: the noise of features, of the structures that models ran on a second time.
        atoms: statistics of the rows of atoms.
        structures: statistics of the cumulant descriptors of structures.

    Args:
        manifest: that of the plan.
        layers: metadata of the features by label.
        folds: the folds of the blocks of each level, as `affordable_folds` gives them; empty for one split.
    """

    def __init__(self, manifest: Metadata, layers: dict[str, Metadata], folds: Mapping[str, GroupFolds]) -> None:
        self.manifest, self.layers, self.folds, self.names = manifest, layers, dict(folds), dict[int, str]()
        self.noise = FeatureNoise()
        config = manifest["config"]
        sizes = SampleSizes(config["local_train_rows"], config["local_test_rows"])
        described = described_of_levels(manifest, layers)
        self.atoms, self.structures = (
            RowAccumulator(
                columns,
                manifest["n_blocks"],
                sizes,
                manifest["statistics"],
                folds[kind].n_blocks if folds else None,
                described[kind],
            )
            for kind, columns in columns_of_levels(manifest, layers).items()
        )

    def add(
        self,
        plan: Plan,
        block: int,
        features: Mapping[str, Tensor],
        numbers: np.ndarray,
        structures: Sequence[System] | None,
        random: Mapping[str, Tensor],
    ) -> None:
        """Add the rows of a block.

        Args:
            plan: structures, split and blocks.
            block: its number.
            features: {label: [n_atoms, D]}.
            numbers: atomic numbers [n_atoms].
            structures: the structures; None where no source has them.
            random: {`random_columns`: [n_atoms, D]}, features with random weights.
        """
        of_atoms, of_structures = self._described(plan.of_block(block), numbers, structures)
        labels = self._in_parts("atoms", plan.atom_labels(block, numbers))
        self.atoms.update(block, features, labels, {**of_atoms, **random})
        labels = self._in_parts("structures", plan.structure_labels(block))
        of_structures |= descriptors(plan, block, random)
        self.structures.update(block, descriptors(plan, block, features), labels, of_structures)

    def _in_parts(self, kind: str, labels: RowLabels) -> RowLabels:
        """Labels with the parts of a level: the blocks of the plan, or the folds that they are in."""
        folds = self.folds.get(kind)
        if folds is None or folds.n_blocks == len(self.manifest["folds"]):
            return labels
        return replace(labels, part=np.array(self.manifest["folds"])[labels.part])

    def _described(
        self, systems: Sequence[SystemInfo], numbers: np.ndarray, structures: Sequence[System] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Descriptors of the atoms and, as means over them, of the structures of a block, for baselines."""
        asked = self.manifest["described"]
        if not asked:
            return {}, {}
        ptr = offsets(systems)[:-1]
        n_atoms = np.diff(offsets(systems))[:, None]
        described = {COMPOSITION_COLUMNS: element_one_hot(numbers)}
        if structures and COORDINATION_COLUMNS in asked["atoms"]:
            described[COORDINATION_COLUMNS] = np.concatenate([coordination(system.atoms) for system in structures])
        means = {name: torch.from_numpy(np.add.reduceat(rows, ptr) / n_atoms) for name, rows in described.items()}
        return {name: torch.from_numpy(described[name]) for name in asked["atoms"]}, means

    def merge(self, other: "ComparisonAccumulator") -> None:
        """Add the statistics of another accumulator, which has accumulated other blocks."""
        self.atoms.merge(other.atoms)
        self.structures.merge(other.structures)
        self.names |= other.names
        self.noise.merge(other.noise)

    def note_names(self, plan: Plan) -> None:
        """Keep the ids of the structures that sampled rows belong to."""
        sample: Sampled = "all" if plan.split.folds else "test"
        owners = (rows.sampled(sample).labels["owner"].tolist() for rows in (self.atoms, self.structures))
        self.names = {number: plan.systems[number].id for numbers in owners for number in numbers}


def columns_of_levels(manifest: Metadata, layers: Mapping[str, Metadata]) -> dict[str, dict[str, int]]:
    """The columns of the features and of the descriptors of each model."""
    widths = {label: layers[label]["width"] for label in manifest["models"]}
    return {"atoms": widths, "structures": {label: manifest["order"] * width for label, width in widths.items()}}


def described_of_levels(manifest: Metadata, layers: Mapping[str, Metadata]) -> dict[str, dict[str, int]]:
    """The columns of the matrices that are sampled only: descriptors for baselines, and features of random weights."""
    labels = manifest["random_weights"]
    random = {random_columns(label, seed): label for label in labels for seed in range(RANDOM_SEEDS)}
    return {
        kind: manifest["described"].get(kind, {}) | {name: widths[label] for name, label in random.items()}
        for kind, widths in columns_of_levels(manifest, layers).items()
    }


def affordable_folds(manifest: Metadata, layers: Mapping[str, Metadata], memory: int) -> dict[str, GroupFolds]:
    """The folds of each level, with the blocks that fit in the memory (bytes); empty for one split.

    Raises:
        InputError: the statistics do not fit.
    """
    if "folds" not in manifest:
        return {}
    folds = GroupFolds(tuple(manifest["folds"]))
    levels = columns_of_levels(manifest, layers).items()
    return {kind: affordable(folds, sum(widths.values()), memory, kind) for kind, widths in levels}


def accumulate(
    plan: Plan,
    sources: Sequence[FeatureSource],
    blocks: Sequence[int],
    timing: Timing,
    progress: Progress | None = None,
    memory: int | None = None,
) -> ComparisonAccumulator | None:
    """Accumulate the statistics of some blocks of a plan.

    Args:
        plan: structures, split and blocks.
        sources: sources of the features of all labels of the plan.
        blocks: numbers of the blocks, which no other process accumulates.
        timing: seconds by part, added to.
        progress: called with the name of a source, atoms done and atoms in all.
        memory: bytes of the statistics; None for half of what is free.

    Returns:
        The accumulator, or None if there are no blocks.

    Raises:
        InputError: features are not finite.
        ModelError: a model fails.
    """
    n_atoms = sum(len(system) for block in blocks for system in plan.of_block(block))
    advances = [counted(progress, source.name, n_atoms) for source in sources]
    of_random = [counted(progress, f"{source.name}, random weights", RANDOM_SEEDS * n_atoms) for source in sources]
    accumulator, check = None, FiniteCheck()
    for block in blocks:
        features, layers = {}, {}
        for source, advance in zip(sources, advances, strict=True):
            rows = source.rows(plan.of_block(block), advance)
            for values in rows.values():
                check.add(source.name, values, plan.of_block(block))
            features.update(rows)
            layers.update({label: source.manifest(label, values) for label, values in rows.items()})
        random = _random(plan.of_block(block), sources, of_random, check)
        features = {label: features[label] for label in plan.manifest["models"]}  # in the order of the models
        if accumulator is None:
            folds = affordable_folds(plan.manifest, layers, memory or available())
            accumulator = ComparisonAccumulator(plan.manifest, layers, folds)
        with timing.part("statistics"), one_torch_thread():  # more threads would change the last bits
            structures = next(filter(None, (source.structures(plan.of_block(block)) for source in sources)), None)
            accumulator.add(plan, block, features, sources[0].numbers(plan.of_block(block)), structures, random)
        for source in sources:
            accumulator.noise.update(_noise(plan, block, source, features))
    check.finish()
    if accumulator is not None:
        accumulator.note_names(plan)
    return accumulator


def _random(
    systems: Sequence[SystemInfo],
    sources: Sequence[FeatureSource],
    advances: Sequence[Advance | None],
    check: FiniteCheck,
) -> dict[str, Tensor]:
    """The features with random weights of all sources that have them."""
    random: dict[str, Tensor] = {}
    for source, advance in zip(sources, advances, strict=True):
        rows = source.random_rows(systems, advance)
        for values in rows.values():
            check.add(f"{source.name} with random weights", values, systems)
        random.update(rows)
    return random


def _noise(plan: Plan, block: int, source: FeatureSource, features: Mapping[str, Tensor]) -> NoiseByLabel:
    """The noise of the structures of the probe in a block."""
    systems = plan.of_block(block)
    ptr = offsets(systems)
    chosen = [position for position, system in enumerate(systems) if system.id in plan.probe]
    if not chosen:
        return {}
    rows = torch.from_numpy(np.concatenate([np.arange(ptr[position], ptr[position + 1]) for position in chosen]))
    values = {label: of_label[rows.to(of_label.device)] for label, of_label in features.items()}
    return source.noise([systems[position] for position in chosen], values)


def descriptors(plan: Plan, block: int, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Progressive cumulants [n_systems, order * D] of a block, in the unit of the features, order-major, float64."""
    ptr = torch.from_numpy(offsets(plan.of_block(block)))
    order, by_label = plan.config.cumulant_order, {}
    for label, values in features.items():
        cumulants = segment_cumulants(values.double(), copy_without_sync(ptr, values.device), order, root=True)
        by_label[label] = cumulants.flatten(1)
    return by_label
