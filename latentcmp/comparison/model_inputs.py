"""Models as callers give them: names, loaded models and features; and one label for each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.features.stored import FeaturesInMemory, StoredFeatures
from latentcmp.models.card import Adapter

Model: TypeAlias = str | Adapter | Features | StoredFeatures
"""A name, FAMILY:CHECKPOINT or features:DIRECTORY; a loaded model; features in memory; opened features."""

InMemory: TypeAlias = Mapping[str, Adapter | StoredFeatures]
"""By label the inputs that are no text."""


class Inputs(NamedTuple):
    """The names of a configuration, text as given and labels of all else, and the objects by their labels."""

    names: tuple[str, ...]
    in_memory: InMemory

    @classmethod
    def of(cls, models: Model | Sequence[Model]) -> "Inputs":
        """Label what is not text: a model by the name of its card, features by the name in their manifest.

        Features whose name another input has are labelled NAME@LAYER.

        Raises:
            InputError: an input is of another type, or a label is not unique.
        """
        given = [models] if isinstance(models, Model) else list(models)
        preferred = [_label(model, position) for position, model in enumerate(given)]
        count = Counter(preferred)
        names = [
            _with_layer(label, model) if count[label] > 1 else label
            for label, model in zip(preferred, given, strict=True)
        ]
        in_memory: dict[str, Adapter | StoredFeatures] = {}
        for name, model in zip(names, given, strict=True):
            if isinstance(model, str):
                continue
            _check_unique(name, names)
            in_memory[name] = FeaturesInMemory(name, model) if isinstance(model, Features) else model
        return cls(tuple(names), in_memory)


def _label(model: Model, position: int) -> str:
    if isinstance(model, str):
        return model
    if isinstance(model, Adapter):
        return model.card.name
    if isinstance(model, StoredFeatures):
        return model.label
    if isinstance(model, Features):
        return str(model.manifest.get("name", "features"))
    raise InputError(
        f"models must be names, loaded models (latentcmp.models.load) or features (latentcmp.extract, "
        f"latentcmp.open_features), got {type(model).__name__} at position {position}"
    )


def _with_layer(label: str, model: Model) -> str:
    layer = model.manifest.get("layer") if isinstance(model, Features) else None
    return f"{label}@{layer}" if layer else label


def _check_unique(label: str, labels: Sequence[str]) -> None:
    if labels.count(label) > 1:
        raise InputError(
            f"{labels.count(label)} of the models are called {label!r}; give one of them another name, as in "
            'features.manifest["name"] = "other" or adapter.card = dataclasses.replace(adapter.card, name="other")'
        )
