"""Names and steps of the checkpoints of a training."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from latentcmp.errors import InputError
from latentcmp.models.discovery import family_names

STEP_PATTERNS = (r"(?:global_?)?step[=_-]?(\d+)", r"epoch[=_-]?(\d+)")


def expanded(checkpoints: Iterable[str], family: str | None = None) -> list[str]:
    """Return checkpoints as NAME or FAMILY:PATH.

    Args:
        checkpoints: names, FAMILY:PATH, or paths; a folder is replaced by its files in natural order.
        family: family of bare paths.

    Raises:
        InputError: a bare path without a family, or no checkpoint at all.
    """
    found = []
    for text in checkpoints:
        head, colon, rest = text.partition(":")
        named, path = (head, Path(rest)) if colon and head in family_names() else (family, Path(text))
        if not path.exists():
            found.append(text)
        elif named is None:
            raise InputError(f"{path} is of an unknown family; give --family, one of {', '.join(family_names())}")
        else:
            files = sorted(filter(_is_file, path.iterdir()), key=_natural) if path.is_dir() else [path]
            found += [f"{named}:{file}" for file in files]
    if not found:
        raise InputError(f"no checkpoints in {', '.join(checkpoints) or 'nothing'}")
    return list(dict.fromkeys(found))


def steps_of(names: Sequence[str]) -> list[int]:
    """Return the step of each name: the number after "step" or "epoch", else the last number, else its index."""
    for pattern in STEP_PATTERNS:
        stated = [re.findall(pattern, name, re.IGNORECASE) for name in names]
        if all(stated):
            return [int(numbers[-1]) for numbers in stated]
    last = [re.findall(r"\d+", re.sub(r"(\.[a-zA-Z]\w*)+$", "", name)) for name in names]
    if all(last) and len({int(numbers[-1]) for numbers in last}) == len(names):
        return [int(numbers[-1]) for numbers in last]
    return list(range(len(names)))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key that orders numbers inside names by value: epoch9 before epoch10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
