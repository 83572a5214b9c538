"""Names of models and layers, and the loading of models by name."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from latentcmp._runtime.settings import single_precision
from latentcmp._runtime.types import Metadata
from latentcmp.errors import InputError, LatentcmpError, ModelError
from latentcmp.models.card import Adapter, ModelCard
from latentcmp.models.checkpoint import bundled_checkpoint, file_sha256, package_folder
from latentcmp.models.discovery import family_errors, find_family, model_errors, registrations

ALIASES = {"sevennet-mf-0-pbe": "sevennet-mf-0"}
DEFAULT_MODELS = ("chgnet-0.3.0", "sevennet-0", "sevennet-mf-0", "diep")


@dataclass(frozen=True)
class ModelSpec:
    """A model and a layer by the text that names them: NAME[@LAYER] or FAMILY:CHECKPOINT[#MODALITY][@LAYER].

    Attributes:
        label: the text.
        card: the card of the model.
        checkpoint: a checkpoint file of the user's, None for the one in the model's package.
        layer: the layer whose features are taken.
    """

    label: str
    card: ModelCard
    checkpoint: Path | None
    layer: str

    @property
    def source(self) -> tuple[str, str]:
        """A key that specs share where they are layers of one loaded model."""
        return self.card.name, self.card.options.get("modality", "")


@cache
def cards() -> dict[str, ModelCard]:
    """Return the cards of all usable checkpoints by name, without an import of a model package."""
    offered = (card for one in registrations() for card in one.cards)
    return {card.name: card for card in offered if card.name not in model_errors()}


def parse(text: str, layer: str = "last") -> ModelSpec:
    """Return the spec that a text names.

    Args:
        text: NAME[@LAYER] or FAMILY:CHECKPOINT[#MODALITY][@LAYER].
        layer: the layer where the text names none.

    Raises:
        InputError: the model is unknown (the message has the nearest names) or cannot be used.
    """
    family, colon, rest = text.partition(":")
    if colon:
        path, own_layer = _cut(rest, "@")
        path, modality = _cut(path, "#")
        return ModelSpec(text, _custom_card(family, path, modality), Path(path), own_layer or layer)
    name, _, own_layer = text.partition("@")
    return ModelSpec(text, _card_of(name), None, own_layer or layer)


def parse_all(texts: Iterable[str], layer: str = "last") -> list[ModelSpec]:
    """Return the specs of a comparison. Raises InputError for none, or for one given twice."""
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
    """Check, before anything slow, that the model's package and checkpoint are there.

    Raises:
        MissingPackageError: the package is not installed.
        InputError: the checkpoint does not exist.
        UntrustedCheckpointError: the checkpoint in the package is not the expected one, and `trust` is False.
    """
    package_folder(spec.card)
    if spec.checkpoint is None:
        bundled_checkpoint(spec.card, trust)
    elif not spec.checkpoint.exists():
        raise InputError(f"checkpoint {spec.checkpoint} does not exist")


def load(spec: ModelSpec | str, device: torch.device | str = "cpu", trust: bool = False) -> Adapter:
    """Load a model onto a device.

    Args:
        spec: a spec, or the text of one.
        device: where the model shall run.
        trust: use checkpoints that are not the expected ones or whose loading can run code from the file.

    Raises:
        MissingPackageError: the model's package is not installed.
        InputError: the model is unknown, or its checkpoint is missing or damaged.
        UntrustedCheckpointError: the checkpoint needs `trust`.
        ModelError: the device has not enough memory.
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    check_available(spec, trust)
    path = spec.checkpoint or bundled_checkpoint(spec.card, trust)
    try:
        with single_precision():
            return find_family(spec.card.family).load(spec.card, path, torch.device(device), trust)
    except LatentcmpError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(f"{spec.label} does not fit into the memory of {device}; free memory or use cpu") from error
    except Exception as error:  # model packages raise whatever they raise
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        raise InputError(f"{path} cannot be loaded as a {spec.card.family} checkpoint: {reason}") from error


def identity(spec: ModelSpec) -> Metadata:
    """Return what a manifest records of a model: names, versions, SHA-256 of the checkpoint, options."""
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
    """Return the installed version of the card's package, None where it is not installed."""
    try:
        return version(card.package)
    except PackageNotFoundError:
        return None


def _card_of(name: str) -> ModelCard:
    known = cards()
    key = ALIASES.get(name.lower(), name.lower())
    if key in known:
        return known[key]
    if key in model_errors():
        raise InputError(model_errors()[key])
    near = get_close_matches(key, [*known, *ALIASES], n=3, cutoff=0.3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    broken = "".join(f"; {error}" for error in family_errors().values())
    raise InputError(
        f"unknown model {name!r}: {hint}Known are {', '.join(known)}; give a checkpoint file as FAMILY:PATH{broken}"
    )


def _cut(path: str, mark: str) -> tuple[str, str]:
    """A path and what follows the last mark; a file whose name contains the mark is a path alone."""
    head, separator, tail = path.rpartition(mark)
    return (path, "") if Path(path).exists() or not separator else (head, tail)


def _custom_card(family: str, path: str, modality: str) -> ModelCard:
    module = find_family(family)
    if not path:
        raise InputError(f"{family}: needs the path of a checkpoint, as in {family}:checkpoint.pth")
    return replace(
        module.CARDS[0],
        name=f"{family}:{path}",
        trained_on="unknown",
        licence="unknown",
        sha256="",
        energies=(),
        options={"modality": modality} if modality else {},
    )
