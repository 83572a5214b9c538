"""The pass: block after block of structures through every source of features, into statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from latentcmp._runtime.devices import without_waiting
from latentcmp._runtime.progress import Progress, Timing, counted
from latentcmp._runtime.settings import one_torch_thread
from latentcmp.comparison.config import CompareConfig
from latentcmp.comparison.plan import Plan
from latentcmp.comparison.sources import Source
from latentcmp.features.finite import FiniteCheck
from latentcmp.ops.segment_cumulants import segment_cumulants
from latentcmp.statistics.accumulator import RowAccumulator, SampleSizes
from latentcmp.systems.system import offsets


class ComparisonAccumulator:
    """Statistics of atoms and of structures: all that a comparison is finished from.

    `manifest` is that of the plan, `layers` what the sources say of the features of each label, `names` the structures
    (by number) that the kept test rows are of.
    """

    def __init__(self, manifest: dict[str, Any], layers: dict[str, dict[str, Any]]) -> None:
        self.manifest, self.layers, self.names = manifest, layers, dict[int, str]()
        config = CompareConfig(**manifest["config"])
        sizes = SampleSizes(config.local_train_rows, config.local_test_rows)
        widths = {label: layers[label]["width"] for label in manifest["models"]}
        wide = {label: config.cumulant_order * width for label, width in widths.items()}
        self.atoms, self.structures = (
            RowAccumulator(of_kind, manifest["n_blocks"], sizes, config.statistics) for of_kind in (widths, wide)
        )

    def merge(self, other: "ComparisonAccumulator") -> None:
        """Take in the blocks of another."""
        self.atoms.merge(other.atoms)
        self.structures.merge(other.structures)
        self.names |= other.names


def collect(
    plan: Plan, sources: Sequence[Source], blocks: Sequence[int], timing: Timing, progress: Progress | None = None
) -> ComparisonAccumulator | None:
    """Gather some blocks of a plan, which no other process gathers; None where there are none.

    Raises InputError for a failure of a model, and for features that are not finite.
    """
    n_atoms = sum(len(system) for block in blocks for system in plan.of_block(block))
    advance = {source.name: counted(progress, source.name, n_atoms) for source in sources}
    found, check = None, FiniteCheck()
    for block in blocks:
        features, layers = {}, {}
        for source in sources:
            made = source.rows(plan.of_block(block), advance[source.name])
            for values in made.values():
                check.add(source.name, values, plan.of_block(block))
            features.update(made)
            layers.update({label: source.manifest(label, values) for label, values in made.items()})
        features = {label: features[label] for label in plan.manifest["models"]}  # in the order they were asked for
        found = found or ComparisonAccumulator(plan.manifest, layers)
        with timing.part("statistics"), one_torch_thread():  # more would change the last bits
            found.atoms.update(block, features, plan.atom_labels(block))
            found.structures.update(block, descriptors(plan, block, features), plan.structure_labels(block))
    check.finish()
    if found is not None:
        owners = (gathered.sampled("test").owners.tolist() for gathered in (found.atoms, found.structures))
        found.names = {number: plan.systems[number].id for numbers in owners for number in numbers}
    return found


def descriptors(plan: Plan, block: int, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Progressive cumulants [n_systems, order * D] in the features' own unit, order-major, float64."""
    ptr = torch.from_numpy(offsets(plan.of_block(block)))
    order, found = plan.config.cumulant_order, {}
    for label, values in features.items():
        cumulants = segment_cumulants(values.double(), without_waiting(ptr, values.device), order, root=True)
        found[label] = cumulants.flatten(1)
    return found
