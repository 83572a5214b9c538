"""The plan of a comparison, made before any model runs: structures, split, blocks and manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latentcmp._runtime.types import Metadata
from latentcmp._runtime.versions import versions
from latentcmp.errors import InputError
from latentcmp.measures.cross_validation import checked_alphas
from latentcmp.measures.local import check_local_points
from latentcmp.models.batching import BATCH_ATOMS, blocks
from latentcmp.statistics.accumulator import RowLabels
from latentcmp.statistics.row_keys import row_keys
from latentcmp.systems.folds import parts_of
from latentcmp.systems.split import Split, split_as_paper, split_by_group
from latentcmp.systems.system import SystemInfo, offsets

if TYPE_CHECKING:
    from latentcmp.comparison.config import CompareConfig


@dataclass(frozen=True)
class Plan:
    """Structures in canonical order, their split, and the blocks in which statistics are accumulated.

    Attributes:
        config: the options.
        systems: structures in canonical order.
        split: test masks of atoms and of structures.
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
    ) -> "Plan":
        """Split the structures and cut them into blocks.

        Args:
            config: the options.
            systems: structures in canonical order.
            device: type of the device, which sets the default batch size.
            models: metadata of the models by label.
            structures: metadata of the structures.

        Raises:
            InputError: the split leaves too few rows for training or testing.
        """
        split = _split(config, systems)
        batch_atoms = config.batch_atoms or BATCH_ATOMS[device]
        cuts = blocks([len(system) for system in systems], batch_atoms)
        manifest = {
            "models": dict(models),
            "structures": structures,
            "split": split.rule,
            "measures": list(config.measures),
            "solver": config.solver,
            "alphas": checked_alphas().tolist(),
            "order": config.cumulant_order,
            "batch_atoms": batch_atoms,
            "n_blocks": len(cuts),
            "config": config.model_dump(mode="json", exclude={"device"}),
            "versions": versions(),
        }
        return cls(config, systems, split, cuts, manifest)

    @cached_property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Parts of all atoms and of all structures (int8)."""
        return parts_of(self.split.atoms), parts_of(self.split.systems)

    def of_block(self, block: int) -> Sequence[SystemInfo]:
        """The structures of a block."""
        return self.systems[slice(*self.blocks[block])]

    def atom_labels(self, block: int) -> RowLabels:
        """Part, sample key, row and structure of the atoms of a block."""
        systems, (start, stop) = self.of_block(block), self.blocks[block]
        rows = np.arange(self._offsets[start], self._offsets[stop])
        counts = [len(system) for system in systems]
        keys = row_keys([system.id for system in systems], counts)
        return RowLabels(self.parts[0][rows], keys, rows, np.repeat(np.arange(start, stop), counts))

    def structure_labels(self, block: int) -> RowLabels:
        """Part, sample key, row and structure of the structures of a block."""
        rows = np.arange(*self.blocks[block])
        keys = row_keys([system.id for system in self.of_block(block)], [1] * len(rows))
        return RowLabels(self.parts[1][rows], keys, rows, rows)

    @cached_property
    def _offsets(self) -> np.ndarray:
        return offsets(self.systems)


def _split(config: "CompareConfig", systems: Sequence[SystemInfo]) -> Split:
    """The split, checked for enough rows on both sides."""
    if config.preset == "chorna2025":
        split = split_as_paper(systems, config.seed)
    else:
        split = split_by_group(systems, config.tested, config.seed)
    for name, test in (("structures", split.systems), ("atoms", split.atoms)):
        n_test, n_train = int(test.sum()), int((~test).sum())
        if n_train < 2 or n_test < 1:
            raise InputError(
                f"the split leaves {n_train} {name} for training and {n_test} for testing; errors need at least 2 and "
                "1: give more structures"
            )
    if config.n_local_points is not None:
        check_local_points(config.n_local_points, min(int((~split.atoms).sum()), config.local_train_rows))
    return split
