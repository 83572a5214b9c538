"""The pass over the structures: features of all sources, block by block, into statistics."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from latentcmp._runtime.devices import copy_without_sync
from latentcmp._runtime.progress import Progress, Timing, counted
from latentcmp._runtime.settings import one_torch_thread
from latentcmp._runtime.types import Metadata
from latentcmp.comparison.plan import Plan
from latentcmp.comparison.sources import FeatureSource
from latentcmp.features.finite import FiniteCheck
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.statistics.accumulator import RowAccumulator, SampleSizes
from latentcmp.systems.system import offsets


class ComparisonAccumulator:
    """Statistics of atoms and of structures, from which `finish` computes the comparison.

    Attributes:
        manifest: that of the plan.
        layers: metadata of the features by label, as the sources give it.
        names: ids of the structures, by their numbers, that sampled test rows belong to.
        atoms: statistics of the rows of atoms.
        structures: statistics of the cumulant descriptors of structures.
    """

    def __init__(self, manifest: Metadata, layers: dict[str, Metadata]) -> None:
        self.manifest, self.layers, self.names = manifest, layers, dict[int, str]()
        config = manifest["config"]
        sizes = SampleSizes(config["local_train_rows"], config["local_test_rows"])
        widths = {label: layers[label]["width"] for label in manifest["models"]}
        wide = {label: manifest["order"] * width for label, width in widths.items()}
        self.atoms, self.structures = (
            RowAccumulator(of_rows, manifest["n_blocks"], sizes, config["statistics"]) for of_rows in (widths, wide)
        )

    def add(self, plan: Plan, block: int, features: Mapping[str, Tensor]) -> None:
        """Add the features {label: [n_atoms, D]} of a block."""
        self.atoms.update(block, features, plan.atom_labels(block))
        self.structures.update(block, descriptors(plan, block, features), plan.structure_labels(block))

    def merge(self, other: "ComparisonAccumulator") -> None:
        """Add the statistics of another accumulator, which has accumulated other blocks."""
        self.atoms.merge(other.atoms)
        self.structures.merge(other.structures)
        self.names |= other.names

    def note_names(self, plan: Plan) -> None:
        """Keep the ids of the structures that sampled test rows belong to."""
        owners = (rows.sampled("test").owners.tolist() for rows in (self.atoms, self.structures))
        self.names = {number: plan.systems[number].id for numbers in owners for number in numbers}


def accumulate(
    plan: Plan,
    sources: Sequence[FeatureSource],
    blocks: Sequence[int],
    timing: Timing,
    progress: Progress | None = None,
) -> ComparisonAccumulator | None:
    """Accumulate the statistics of some blocks of a plan.

    Args:
        plan: structures, split and blocks.
        sources: sources of the features of all labels of the plan.
        blocks: numbers of the blocks, which no other process accumulates.
        timing: seconds by part, added to.
        progress: called with the name of a source, atoms done and atoms in all.

    Returns:
        The accumulator, or None if there are no blocks.

    Raises:
        InputError: features are not finite.
        ModelError: a model fails.
    """
    n_atoms = sum(len(system) for block in blocks for system in plan.of_block(block))
    advances = [counted(progress, source.name, n_atoms) for source in sources]
    accumulator, check = None, FiniteCheck()
    for block in blocks:
        features, layers = {}, {}
        for source, advance in zip(sources, advances, strict=True):
            rows = source.rows(plan.of_block(block), advance)
            for values in rows.values():
                check.add(source.name, values, plan.of_block(block))
            features.update(rows)
            layers.update({label: source.manifest(label, values) for label, values in rows.items()})
        features = {label: features[label] for label in plan.manifest["models"]}  # in the order of the models
        accumulator = accumulator or ComparisonAccumulator(plan.manifest, layers)
        with timing.part("statistics"), one_torch_thread():  # more threads would change the last bits
            accumulator.add(plan, block, features)
    check.finish()
    if accumulator is not None:
        accumulator.note_names(plan)
    return accumulator


def descriptors(plan: Plan, block: int, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Progressive cumulants [n_systems, order * D] of a block, in the unit of the features, order-major, float64."""
    ptr = torch.from_numpy(offsets(plan.of_block(block)))
    order, by_label = plan.config.cumulant_order, {}
    for label, values in features.items():
        cumulants = segment_cumulants(values.double(), copy_without_sync(ptr, values.device), order, root=True)
        by_label[label] = cumulants.flatten(1)
    return by_label
