"""Errors of baselines: rows beside a matrix of errors that say what its values mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field

PERMUTED, WITHIN, ELEMENT, COORDINATED = "permuted rows", "within element", "element", "element + coordination"
COMPOSITION, COMPOSITION_COORDINATED = "composition", "composition + coordination"
RANDOM, BEST_OTHER, NOISE = "random weights", "best other family", "noise"
COMPOSITION_COLUMNS, COORDINATION_COLUMNS = "(composition)", "(coordination)"
"""Names of descriptors beside those of models, from which baselines are made."""
RANDOM_SEEDS = 3
"""Seeds, from 0, of the random weights of an architecture."""
DESCRIPTIONS = {
    PERMUTED: "rows of the target itself, permuted: 1 within rounding, or the split is at fault",
    WITHIN: "rows of the target itself, permuted among atoms of one element: what element means alone reconstruct",
    ELEMENT: "indicators of the element of the atom",
    COORDINATED: "indicators of the element, radial densities and coordination numbers",
    COMPOSITION: "fractions of the elements of the structure",
    COMPOSITION_COORDINATED: "fractions of the elements, and means of radial densities and coordination numbers",
    RANDOM: "the architecture of the target with random weights: the mean over three seeds",
    BEST_OTHER: "the least error of a model of another family",
    NOISE: "the target itself on atoms permuted and displaced by 1e-6 Angstrom: errors below are not significant",
}
REFERENCES = (ELEMENT, COMPOSITION)
"""Baselines that a model has to be better than."""


def random_columns(label: str, seed: int) -> str:
    """Return the name of the features of the architecture of a model with random weights."""
    return f"(random {seed}) {label}"


@dataclass(frozen=True)
class BaselineRows:
    """Errors of every target reconstructed from baselines, or compared with them.

    Attributes:
        targets: names of the targets.
        values: [n_targets] errors by baseline; NaN for a target that a baseline does not have.
        medians: [n_targets] medians of the row errors by baseline, where there are row errors.
    """

    targets: tuple[str, ...]
    values: dict[str, list[float]] = field(default_factory=dict)
    medians: dict[str, list[float]] = field(default_factory=dict)

    @property
    def reference(self) -> Sequence[float] | None:
        """The errors that a model has to be better than, by target; None without such a baseline."""
        return next((self.values[name] for name in REFERENCES if name in self.values), None)

    def beaten(self, values: Sequence[Sequence[float]]) -> list[list[bool]]:
        """Whether each error [source][target] is below that of the reference; all are without one."""
        limits = self.reference
        return [[limits is None or value < limits[t] for t, value in enumerate(row)] for row in values]
