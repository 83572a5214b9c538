"""The list of models and the results of their self-tests, in the terminal."""

from collections.abc import Sequence

from ase.data import chemical_symbols
from rich.console import Console
from rich.text import Text

from latentcmp.cli.tables import check_table
from latentcmp.hooks.points import HookPoint
from latentcmp.models.discovery import family_errors, model_errors
from latentcmp.models.registry import ModelSpec, installed_version
from latentcmp.models.selftest import self_test


def show_models(console: Console, specs: Sequence[ModelSpec]) -> None:
    """Print for each model whether it is installed, its checkpoint, licence, elements and hook points."""
    for spec in specs:
        card = spec.card
        version = installed_version(card)
        state = (
            Text(f"installed ({card.package} {version})", "green") if version else Text(f"missing: {card.pip}", "red")
        )
        console.print(Text.assemble((card.name, "bold"), "  ", state))
        for key, value in (
            ("trained on", card.trained_on),
            ("checkpoint", str(spec.checkpoint or f"{card.module}/{card.checkpoint}")),
            ("licence", card.licence),
            ("elements", _ranges(card.elements)),
            *((key, value) for key, value in card.options.items()),
            *((point.name, _point(point)) for point in card.points),
        ):
            console.print(Text.assemble((f"  {key:<11} ", "cyan"), value), soft_wrap=True)


def show_unusable(console: Console) -> None:
    """Print why registered families and models cannot be used, a line each."""
    for error in dict.fromkeys([*family_errors().values(), *model_errors().values()]):
        console.print(Text(error, "red"), soft_wrap=True)


def show_self_test(console: Console, specs: Sequence[ModelSpec]) -> bool:
    """Test the installed models, print the results of each when it is done, and return whether all checks passed."""
    passed = True
    for spec in specs:
        if installed_version(spec.card) is None and spec.checkpoint is None:
            console.print(f"{spec.label}: not installed, not tested; {spec.card.pip}", style="yellow")
            continue
        checks = self_test(spec)
        console.print(check_table("", [(spec.label, c.name, c.passed, c.detail) for c in checks]))
        passed = passed and all(check.passed for check in checks)
    return passed


def _point(point: HookPoint) -> str:
    layout = f", {point.irreps}" if point.irreps else ""
    return f"{point.path}  [n_atoms, {point.width}]{layout}"


def _ranges(elements: frozenset[int]) -> str:
    """Elements as ranges with their number: `H-Bi, Ac-Pu (89)`."""
    runs: list[list[int]] = []
    for z in sorted(elements):
        if runs and z == runs[-1][1] + 1:
            runs[-1][1] = z
        else:
            runs.append([z, z])
    named = ", ".join("-".join(dict.fromkeys(chemical_symbols[z] for z in run)) for run in runs)
    return f"{named} ({len(elements)})"
