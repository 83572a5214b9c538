"""The report of `latentcmp doctor`: versions, device, backends and packages, with reasons for what is missing."""

from importlib.metadata import PackageNotFoundError, version

import torch
from rich.console import Console
from rich.text import Text

from latentcmp._runtime import backends
from latentcmp._runtime.versions import versions
from latentcmp.models.discovery import family_errors
from latentcmp.models.registry import cards, installed_version


def show_doctor(console: Console) -> None:
    """Print versions and device, then a line for each backend, model package and optional package."""
    _line(console, "versions", ", ".join(f"{name} {number}" for name, number in versions().items()))
    cuda = torch.cuda.is_available()
    _line(console, "device", torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} torch threads")
    for backend, state in backends.describe().items():
        _line(console, f"backend {backend}", state, state.startswith("available"))
    for package, pip in {card.package: card.pip for card in cards().values()}.items():
        number = next(installed_version(card) for card in cards().values() if card.package == package)
        _line(console, f"package {package}", f"installed {number}" if number else f"missing: {pip}", number is not None)
    for family, error in family_errors().items():
        _line(console, f"family {family}", error, False)
    for package in ("torch-scatter", "torch-geometric", "triton"):
        number = _version(package)
        state = f"installed {number}" if number else "missing (optional)"
        _line(console, f"package {package}", state, number is not None)


def _line(console: Console, name: str, text: str, good: bool | None = None) -> None:
    style = {None: "", True: "green", False: "yellow"}[good]
    console.print(Text.assemble((f"{name:<24} ", "cyan"), (text, style)), soft_wrap=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
