"""Model families: those of latentcmp, and those that installed packages register as entry points.

A package registers a family under its name in the entry point group `latentcmp.families`:

    [project.entry-points."latentcmp.families"]
    toy = "latentcmp_toy.family"

The entry point names a module with the interface `latentcmp.models.card.Family`. A family that cannot be imported, or
whose name several packages register, does not keep the others from working; using it raises `InputError`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from latentcmp.errors import InputError
from latentcmp.models.card import Family, ModelCard

GROUP = "latentcmp.families"
BUILT_IN = {
    "chgnet": "latentcmp.models.families.chgnet",
    "sevennet": "latentcmp.models.families.sevennet",
    "diep": "latentcmp.models.families.diep",
}
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Registration:
    """A family by its name, the package that registers it, and its module or why that cannot be used."""

    family: str
    package: str
    module: Family | None
    error: str = ""

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """The cards of the family; none where its module cannot be used."""
        return tuple(self.module.CARDS) if self.module else ()


@cache
def registrations() -> tuple[Registration, ...]:
    """All registered families, those of latentcmp first."""
    built_in = [Registration(name, "latentcmp", cast(Family, import_module(path))) for name, path in BUILT_IN.items()]
    return *built_in, *sorted(map(_plugin, entry_points(group=GROUP)), key=lambda one: (one.family, one.package))


def family_names() -> list[str]:
    """Names of the registered families."""
    return list(dict.fromkeys(one.family for one in registrations()))


def find_family(name: str) -> Family:
    """Return the module of a family. Raises InputError for one that is unknown, broken or registered twice."""
    if name in family_errors():
        raise InputError(family_errors()[name])
    modules = {one.family: one.module for one in registrations()}
    if name not in modules:
        raise InputError(f"unknown model family {name!r}; known are {', '.join(modules)}")
    return cast(Family, modules[name])


@cache
def family_errors() -> dict[str, str]:
    """Return why families cannot be used, by name."""
    broken = {
        one.family: f"the model family {one.family!r} of package {one.package} cannot be used: {one.error}"
        for one in registrations()
        if one.error
    }
    return broken | _conflicts("model family", ((one.family, one.package) for one in registrations()))


@cache
def model_errors() -> dict[str, str]:
    """Return why models cannot be used although a package offers them, by name."""
    offered = [(card.name, one) for one in registrations() for card in one.cards]
    unusable = {name: family_errors()[one.family] for name, one in offered if one.family in family_errors()}
    return unusable | _conflicts("model", ((name, one.package) for name, one in offered if name not in unusable))


def _conflicts(kind: str, offered: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Messages for the names that are offered more than once, from pairs of name and package."""
    packages: dict[str, list[str]] = {}
    for name, package in offered:
        packages.setdefault(name, []).append(package)
    return {
        name: f"the {kind} {name!r} is registered by packages {' and '.join(owners)}; uninstall all but one of them"
        for name, owners in packages.items()
        if len(owners) > 1
    }


def _plugin(entry: EntryPoint) -> Registration:
    package = entry.dist.name if entry.dist else entry.value
    try:
        return Registration(entry.name, package, _checked(entry.name, entry.load()))
    except Exception as error:  # somebody else's module raises whatever it raises
        return Registration(entry.name, package, None, f"{type(error).__name__}: {error}")


def _checked(name: str, module: Any) -> Family:
    """The module of a plug-in. Raises TypeError or ValueError where it does not offer what a family must offer."""
    cards = tuple(module.CARDS)
    if not cards or not all(isinstance(card, ModelCard) for card in cards) or not callable(module.load):
        raise TypeError("a family must have CARDS, at least one ModelCard, and load(card, path, device, trust)")
    for card in cards:
        if card.family != name:
            raise ValueError(f"the card {card.name!r} is of family {card.family!r}, registered as {name!r}")
        if not MODEL_NAME.fullmatch(card.name):
            raise ValueError(f"the model name {card.name!r} must be of lower-case letters, digits and . _ -")
    return module
