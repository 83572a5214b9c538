"""The plan of a comparison, made before any model runs: structures, split, blocks and manifest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latentcmp._runtime.types import Metadata
from latentcmp._runtime.versions import versions
from latentcmp.comparison.noise import probe_systems
from latentcmp.errors import InputError
from latentcmp.measures.baseline_rows import COMPOSITION_COLUMNS, COORDINATION_COLUMNS, RANDOM_SEEDS, random_columns
from latentcmp.measures.cross_validation import checked_alphas
from latentcmp.measures.local import check_local_points
from latentcmp.measures.pairs import default_local_grid
from latentcmp.measures.strength_search import default_strengths
from latentcmp.models.batching import BATCH_ATOMS, blocks
from latentcmp.statistics.accumulator import RowLabels
from latentcmp.statistics.row_keys import row_keys
from latentcmp.systems.descriptors import N_COORDINATION, N_ELEMENTS
from latentcmp.systems.folds import RowPart
from latentcmp.systems.group_folds import GroupFolds
from latentcmp.systems.split import Split, split_as_paper, split_into_folds
from latentcmp.systems.system import SystemInfo, offsets

if TYPE_CHECKING:
    from latentcmp.comparison.config import CompareConfig


@dataclass(frozen=True)
class Plan:
    """Structures in canonical order, their split, and the blocks in which statistics are accumulated.

    Attributes:
        config: the options.
        systems: structures in canonical order.
        split: parts of atoms and of structures.
        blocks: first structure of each block, and the one after its last.
        manifest: what is compared; the same in every process of the comparison.
    """

    config: "CompareConfig"
    systems: Sequence[SystemInfo]
    split: Split
    blocks: list[tuple[int, int]]
    manifest: Metadata

    @classmethod
    def of(
        cls,
        config: "CompareConfig",
        systems: Sequence[SystemInfo],
        device: str,
        models: Mapping[str, Any],
        structures: Any,
        random: Sequence[str] = (),
    ) -> "Plan":
        """Split the structures and cut them into blocks.

        Args:
            config: the options.
            systems: structures in canonical order.
            device: type of the device, which sets the default batch size.
            models: metadata of the models by label.
            structures: metadata of the structures.
            random: labels of models that are run with random weights too.

        Raises:
            InputError: the split leaves too few rows for training or testing, or a label is the name of a baseline.
        """
        _check_labels(models, random)
        split = _split(config, systems)
        batch_atoms = config.batch_atoms or BATCH_ATOMS[device]
        cuts = blocks([len(system) for system in systems], batch_atoms)
        manifest = {
            "models": dict(models),
            "structures": structures,
            "split": split.rule,
            "measures": list(config.measures),
            **recipe(config, split.folds),
            "statistics": config.accumulated_as,
            "described": _described(config, models, split.folds is not None),
            "random_weights": [label for label in models if label in random],
            "order": config.cumulant_order,
            "batch_atoms": batch_atoms,
            "n_blocks": len(cuts),
            "config": config.model_dump(mode="json", exclude={"device"}),
            "versions": versions(),
        }
        return cls(config, systems, split, cuts, manifest)

    def of_block(self, block: int) -> Sequence[SystemInfo]:
        """The structures of a block."""
        return self.systems[slice(*self.blocks[block])]

    def atom_labels(self, block: int, numbers: np.ndarray) -> RowLabels:
        """Part, sample key, row, structure, group and element of the atoms of a block with these atomic numbers."""
        systems, (start, stop) = self.of_block(block), self.blocks[block]
        rows = np.arange(self._offsets[start], self._offsets[stop])
        counts = [len(system) for system in systems]
        keys = row_keys([system.id for system in systems], counts)
        owners = np.repeat(np.arange(start, stop), counts)
        return RowLabels(self.split.atoms[rows], keys, rows, owners, self._groups[owners], numbers)

    def structure_labels(self, block: int) -> RowLabels:
        """Part, sample key, row, structure and group of the structures of a block."""
        rows = np.arange(*self.blocks[block])
        keys = row_keys([system.id for system in self.of_block(block)], [1] * len(rows))
        return RowLabels(self.split.systems[rows], keys, rows, rows, self._groups[rows], np.zeros_like(rows))

    @cached_property
    def probe(self) -> frozenset[str]:
        """Ids of the structures that models are run on a second time, for the noise of their features."""
        if not self.manifest["described"]:
            return frozenset()
        if self.config.has_full_baselines:
            return frozenset(system.id for system in self.systems)
        return frozenset(system.id for system in probe_systems(self.systems))

    @cached_property
    def _groups(self) -> np.ndarray:
        """The number of the group of each structure, groups in the order of their names."""
        return np.unique([system.group for system in self.systems], return_inverse=True)[1]

    @cached_property
    def _offsets(self) -> np.ndarray:
        return offsets(self.systems)


def _described(config: "CompareConfig", models: Mapping[str, Any], has_folds: bool) -> dict[str, dict[str, int]]:
    """The columns of descriptors of atoms and of structures that baselines need; empty without baselines."""
    if config.baselines == "none" or not has_folds:
        return {}
    runs = any(model["source"] in ("model", "loaded model") for model in models.values())  # else no structures
    coordination = {COORDINATION_COLUMNS: N_COORDINATION} if runs else {}
    return {"atoms": coordination, "structures": {COMPOSITION_COLUMNS: N_ELEMENTS, **coordination}}


def _check_labels(labels: Iterable[str], random: Iterable[str]) -> None:
    of_random = [random_columns(label, seed) for label in random for seed in range(RANDOM_SEEDS)]
    for label in labels:
        if label in (COMPOSITION_COLUMNS, COORDINATION_COLUMNS, *of_random):
            raise InputError(f"{label!r} is the name of a baseline; give the features another name")


def recipe(config: "CompareConfig", folds: GroupFolds | None) -> Metadata:
    """The folds, the solver and the grids of strengths; without folds a warning that positions decide the folds."""
    solver = config.regularised_by
    if folds is None:
        return {"solver": solver, "alphas": checked_alphas().tolist(), "depends_on_the_order_of_rows": True}
    return {
        "folds": list(folds.fold_of_block),
        "solver": solver,
        "alphas": default_strengths(solver).tolist(),
        "local_alphas": default_local_grid(solver).tolist(),
    }


def _split(config: "CompareConfig", systems: Sequence[SystemInfo]) -> Split:
    """The split, checked for enough rows on both sides."""
    if config.preset != "chorna2025":
        split = split_into_folds(systems, config.seed)
        rows = min(len(split.atoms) - int((split.atoms == block).sum()) for block in set(split.atoms.tolist()))
    else:
        split = split_as_paper(systems, config.seed)
        for name, part in (("structures", split.systems), ("atoms", split.atoms)):
            n_test, n_train = int((part == RowPart.TEST).sum()), int((part != RowPart.TEST).sum())
            if n_train < 2 or n_test < 1:
                raise InputError(
                    f"the split leaves {n_train} {name} for training and {n_test} for testing; errors need at least 2 "
                    "and 1: give more structures"
                )
        rows = n_train
    if config.n_local_points is not None:
        check_local_points(config.n_local_points, min(rows, config.local_train_rows))
    return split
