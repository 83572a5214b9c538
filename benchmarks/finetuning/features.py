"""Features on the way: kept with their gradients for the anchor, compared on fixed probes for the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from latentcmp import compare_features
from latentcmp.measures.error_matrix import ErrorMatrix
from latentcmp.measures.strength_search import LEAST_DRIFT, default_strengths
from latentcmp.models.card import Adapter
from latentcmp.models.forward import run_layers
from latentcmp.nn import ReconstructionLoss
from latentcmp.systems.system import System

from .labels import Labelled

LAYERS = ("last", "backbone")


@contextmanager
def features_of(adapter: Adapter) -> Iterator[dict[str, Tensor]]:
    """Features of both layers with their gradients, which `latentcmp.tap` would cut off."""
    found: dict[str, Tensor] = {}

    def keeper(layer: str) -> Any:
        return lambda module, inputs, output: found.update({layer: output})

    modules = {layer: adapter.module.get_submodule(adapter.point(layer).path) for layer in LAYERS}
    handles = [module.register_forward_hook(keeper(layer)) for layer, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class Anchor:
    """Keeps the pretrained features within reach: a penalty on what those of a batch cannot rebuild of them.

    A batch holds fewer atoms than features have columns, so the map is one over the last batches (`momentum`), and it
    is held still: gradients change the features, not the map. Squared, the error fades where it is small.
    """

    def __init__(self, pretrained: Adapter, data: Sequence[Labelled], weight: float = 10.0) -> None:
        self.weight, self.known = weight, [self._features(pretrained, example) for example in data]
        widths = {layer: (self.known[0][layer].shape[1],) * 2 for layer in LAYERS}
        self.losses = {
            layer: ReconstructionLoss(alpha=1e-6, detach="map", momentum=0.05, widths=widths[layer]) for layer in LAYERS
        }

    def __call__(self, features: dict[str, Tensor], positions: Sequence[int]) -> Tensor:
        """The penalty of a batch of structures, summed over the layers."""
        known = {layer: torch.cat([self.known[at][layer] for at in positions]) for layer in LAYERS}
        return self.weight * sum(loss(features[layer], known[layer]) ** 2 for layer, loss in self.losses.items())

    @staticmethod
    def _features(pretrained: Adapter, example: Labelled) -> dict[str, Tensor]:
        with torch.no_grad(), features_of(pretrained) as found:
            pretrained.energies([example.graph])
        return found


class Probe:
    """Fixed structures on which the features of any model are compared with those of the pretrained one."""

    def __init__(self, systems: Sequence[System], pretrained: Adapter) -> None:
        self.systems = list(systems)
        self.groups = [system.group for system in self.systems for _ in range(len(system))]
        self.pretrained = self.features(pretrained)

    def features(self, adapter: Adapter) -> dict[str, Tensor]:
        """Atom features [n_atoms, D] of both layers."""
        return run_layers(adapter, LAYERS, self.systems)

    def errors(self, adapter: Adapter) -> dict[str, dict[str, float]]:
        """GFRE of both layers: "to" the pretrained features, and "from" them."""
        features, errors = self.features(adapter), {}
        for layer in LAYERS:
            gfre = self.gfre({"now": features[layer], "pretrained": self.pretrained[layer]})
            errors[layer] = {"to": gfre["now", "pretrained"], "from": gfre["pretrained", "now"]}
        return errors

    def gfre(self, features: dict[str, Tensor]) -> ErrorMatrix:
        """GFRE between features {name: [n_atoms, D]} of one layer, with the strengths of drift."""
        strengths = default_strengths("ridge", LEAST_DRIFT)
        return compare_features(features, groups=self.groups, measures=["gfre"], solver="ridge", alphas=strengths).gfre
