"""What a level needs from the whole comparison: baselines among its own models, noise of features, warnings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from latentcmp.comparison.noise import FeatureNoise, discontinuous
from latentcmp.comparison.result import Level
from latentcmp.measures.baseline_rows import BEST_OTHER, NOISE
from latentcmp.measures.error_matrix import ErrorMatrix

LISTED = 5


def annotated(
    level: Level,
    families: Mapping[str, str],
    noise: FeatureNoise,
    spreads: Mapping[str, float],
    notes: Sequence[str] = (),
) -> Level:
    """Add the best model of another family, the noise of features and warnings to a level.

    Args:
        level: measures of folds with baselines, which are changed in place.
        families: family of each model, where it is known.
        noise: the noise of features; empty without it.
        spreads: the spread of the features of each model over all rows, in their unit.
        notes: further warnings.
    """
    for measure, beside in level.context.baselines.items():
        matrix = level.pairs(measure)
        best = _best_other(matrix, families)
        if best:
            beside.values[BEST_OTHER] = best
        if all(noise.largest(name) > 0 for name in matrix.names):
            beside.values[NOISE] = [noise.rms(name) / spreads[name] for name in matrix.names]
    warnings = [*level.context.warnings, *_discontinuities(noise, spreads), *notes]
    return replace(level, context=replace(level.context, warnings=warnings))


def without_random_weights(labels: Sequence[str], random: Sequence[str]) -> list[str]:
    """Return a note on the labels that are not among those with random weights; none where all are."""
    left_out = [label for label in labels if label not in random]
    if not left_out:
        return []
    return [
        f"no baseline of random weights for {_listed(left_out)}: stored features have no model to run, and not every "
        "family can construct its architecture anew"
    ]


def _best_other(matrix: ErrorMatrix, families: Mapping[str, str]) -> list[float]:
    """The least error of each target from a source of another family; none where some target has no such source."""
    best = []
    for target in matrix.names:
        others = [
            matrix[source, target]
            for source in matrix.names
            if families.get(source) and families.get(target) and families[source] != families[target]
        ]
        best.append(min(others, default=None))
    return [value for value in best if value is not None] if None not in best else []


def _discontinuities(noise: FeatureNoise, spreads: Mapping[str, float]) -> Iterator[str]:
    for name, structures in discontinuous(noise, spreads).items():
        if structures:
            yield (
                f"features of {name} are discontinuous: 1e-6 Angstrom moves {_listed(structures)} by more than 0.001 "
                "of their spread"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
