"""The measures and the names they are asked for by."""

from collections.abc import Sequence
from typing import Literal

from latentcmp.errors import InputError

Measure = Literal["gfre", "gfrd", "lfre"]
MEASURES: tuple[Measure, ...] = ("gfre", "gfrd", "lfre")


def check_measures(measures: Sequence[str]) -> None:
    """Raise InputError unless there are measures and all are known."""
    unknown = [measure for measure in measures if measure not in MEASURES]
    if unknown or not measures:
        raise InputError(
            f"measures must be some of {', '.join(MEASURES)}, got {', '.join(map(repr, measures)) or 'none'}"
        )
