"""Models of the same architecture with random weights: what they share with the trained one, and what they do not."""

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn

from latentcmp.models import Adapter, load
from latentcmp.models.forward import run_layers
from latentcmp.systems.read import read_systems

from ..monitor.drift_rank import toy

NAMES = ("chgnet-0.3.0", "chgnet-0.2.0", "sevennet-0", "sevennet-mf-0-r2scan", "diep")


def weights(adapter: Adapter) -> dict[str, torch.Tensor]:
    """The large parameters."""
    return {name: of.detach() for name, of in adapter.module.named_parameters() if of.numel() > 1000}


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_are_those_of_a_seed_and_all_else_is_that_of_the_model(
    all_models: None, structures: list[Atoms], name: str
) -> None:
    systems = read_systems(structures[-6:])
    trained = load(name)
    before, state = torch.get_rng_state(), {key: of.clone() for key, of in trained.module.state_dict().items()}
    adapters = [trained, *(trained.with_random_weights(seed) for seed in (0, 1, 0))]
    assert torch.equal(torch.get_rng_state(), before)
    layers = [point.name for point in trained.card.points]
    features = []
    for adapter in adapters:
        assert adapter is not None
        assert type(adapter) is type(trained)
        assert (adapter.card, adapter.device) == (trained.card, trained.device)
        assert not adapter.module.training
        shapes = {key: of.shape for key, of in adapter.module.state_dict().items()}
        assert shapes == {key: of.shape for key, of in state.items()}
        features.append(run_layers(adapter, layers, systems))
        assert all(bool(of.isfinite().all()) for of in features[-1].values())
    for layer in layers:
        of_trained, first, second, again = (of[layer] for of in features)
        assert torch.equal(first, again)
        assert of_trained.shape == first.shape == second.shape
        for x, y in ((of_trained, first), (of_trained, second), (first, second)):
            assert bool((x - y).norm() > 0.1 * y.norm())
    for key, of in trained.module.state_dict().items():
        assert torch.equal(of, state[key])


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "sevennet-0", "diep"])
def test_no_weight_is_a_trained_one_in_another_place(all_models: None, name: str) -> None:
    trained = load(name)
    random = trained.with_random_weights(0)
    assert random is not None
    initial = weights(random)
    assert len(initial) > 20
    for key, of in weights(trained).items():
        shared = np.intersect1d(of.numpy(), initial[key].numpy())
        assert len(shared) < 0.01 * of.numel(), key


def test_normalisations_of_sevennet_are_those_of_the_model(all_models: None) -> None:
    trained = load("sevennet-0")
    random = trained.with_random_weights(0)
    assert random is not None
    state = trained.module.state_dict()
    kept = {key for key, of in random.module.state_dict().items() if of.numel() and torch.equal(of, state[key])}
    assert {f"{number}_convolution.denominator" for number in range(5)} <= kept
    assert {"rescale_atomic_energy.shift", "rescale_atomic_energy.scale"} <= kept


def test_linear_layers_of_chgnet_are_initialised_as_torch_does(all_models: None) -> None:
    random = load("chgnet-0.3.0").with_random_weights(3)
    assert random is not None
    linear = [module for module in random.module.modules() if isinstance(module, nn.Linear) and module.in_features > 8]
    ratios = [float(of.weight.detach().std() * (3 * of.in_features) ** 0.5) for of in linear if of.out_features > 8]
    assert ratios == pytest.approx([1.0] * len(ratios), rel=0.1)  # uniform in +-1 / sqrt(inputs)


def test_a_family_without_it_has_none() -> None:
    assert toy().with_random_weights(0) is None
