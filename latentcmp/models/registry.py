"""The model families and the names under which their checkpoints go. To add a family: one file and one row here."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from latentcmp._runtime.settings import single_precision
from latentcmp.errors import InputError, LatentcmpError
from latentcmp.models.card import Adapter, ModelCard
from latentcmp.models.checkpoint import bundled_checkpoint, file_sha256, package_folder

FAMILIES = {
    "chgnet": "latentcmp.models.families.chgnet",
    "sevennet": "latentcmp.models.families.sevennet",
    "diep": "latentcmp.models.families.diep",
}
ALIASES = {"sevennet-mf-0-pbe": "sevennet-mf-0"}
DEFAULT_MODELS = ("chgnet-0.3.0", "sevennet-0", "sevennet-mf-0", "diep")


@dataclass(frozen=True)
class ModelSpec:
    """A model as a user names it: NAME or FAMILY:CHECKPOINT[#MODALITY], with @LAYER where it has one of its own."""

    label: str
    card: ModelCard
    checkpoint: Path | None
    layer: str

    @property
    def source(self) -> tuple[str, str]:
        """Specs of one source are layers of one loaded model."""
        return self.card.name, self.card.options.get("modality", "")


@cache
def cards() -> dict[str, ModelCard]:
    """Every known checkpoint by name. Imports no model package."""
    return {card.name: card for module in FAMILIES.values() for card in import_module(module).CARDS}


def parse(text: str, layer: str = "last") -> ModelSpec:
    """A spec from its text. Raises InputError with the nearest names for an unknown one."""
    family, colon, rest = text.partition(":")
    if colon:
        path, own_layer = _cut(rest, "@")
        path, modality = _cut(path, "#")
        return ModelSpec(text, _custom_card(family, path, modality), Path(path), own_layer or layer)
    name, _, own_layer = text.partition("@")
    known = cards()
    key = ALIASES.get(name.lower(), name.lower())
    if key not in known:
        near = get_close_matches(key, [*known, *ALIASES], n=3, cutoff=0.3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise InputError(
            f"unknown model {name!r}: {hint}Known are {', '.join(known)}; a checkpoint of your own goes as FAMILY:PATH"
        )
    return ModelSpec(text, known[key], None, own_layer or layer)


def parse_all(texts: Iterable[str], layer: str = "last") -> list[ModelSpec]:
    """Specs of a comparison. Raises InputError for none, or for one given twice."""
    specs = [parse(text, layer) for text in texts]
    if not specs:
        raise InputError(f"no models were given; known are {', '.join(cards())}")
    seen: dict[tuple[Any, ...], str] = {}
    for spec in specs:
        twin = seen.setdefault((*spec.source, spec.layer), spec.label)
        if twin is not spec.label:
            raise InputError(f"{spec.label!r} and {twin!r} are the same layer of the same model; give each once")
    return specs


def check_available(spec: ModelSpec, trust: bool = False) -> None:
    """Raise, before anything slow, where the package or the checkpoint is missing or not the one expected."""
    package_folder(spec.card)
    if spec.checkpoint is None:
        bundled_checkpoint(spec.card, trust)
    elif not spec.checkpoint.exists():
        raise InputError(f"checkpoint {spec.checkpoint} does not exist")


def load(spec: ModelSpec | str, device: torch.device | str = "cpu", trust: bool = False) -> Adapter:
    """Load a model onto a device. Raises MissingPackageError, InputError or UntrustedCheckpointError."""
    spec = parse(spec) if isinstance(spec, str) else spec
    check_available(spec, trust)
    path = spec.checkpoint or bundled_checkpoint(spec.card, trust)
    try:
        with single_precision():
            return import_module(FAMILIES[spec.card.family]).load(spec.card, path, torch.device(device), trust)
    except (LatentcmpError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # model packages raise whatever they raise
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        raise InputError(f"{path} is no {spec.card.family} checkpoint that can be loaded: {reason}") from error


def identity(spec: ModelSpec) -> dict[str, Any]:
    """What a manifest records of a model: names, versions, the checkpoint's sha256, options."""
    card = spec.card
    path = spec.checkpoint or package_folder(card) / card.checkpoint
    return {
        "name": card.name,
        "family": card.family,
        "package": card.package,
        "package_version": installed_version(card),
        "checkpoint": str(spec.checkpoint or f"{card.module}/{card.checkpoint}"),
        "sha256": file_sha256(path) if path.is_file() else None,
        "licence": card.licence,
        "trained_on": card.trained_on,
        **card.options,
    }


def installed_version(card: ModelCard) -> str | None:
    """The installed version of the card's package, None where it is not installed."""
    try:
        return version(card.package)
    except PackageNotFoundError:
        return None


def _cut(path: str, mark: str) -> tuple[str, str]:
    """A path and what follows the last mark; a file whose own name holds the mark is a path alone."""
    head, found, tail = path.rpartition(mark)
    return (path, "") if Path(path).exists() or not found else (head, tail)


def _custom_card(family: str, path: str, modality: str) -> ModelCard:
    if family not in FAMILIES:
        raise InputError(f"unknown model family {family!r}; known are {', '.join(FAMILIES)}")
    if not path:
        raise InputError(f"{family}: needs the path of a checkpoint, as in {family}:checkpoint.pth")
    first = next(card for card in cards().values() if card.family == family)
    return replace(
        first,
        name=f"{family}:{path}",
        trained_on="unknown",
        licence="unknown",
        sha256="",
        energies=(),
        options={"modality": modality} if modality else {},
    )
