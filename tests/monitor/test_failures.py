"""What goes wrong in a probe is a record and no end of the training; what does not fit is refused at once."""

import math
from collections.abc import Callable

import pytest
import torch
from ase import Atoms
from torch import nn

from latentcmp import DriftMonitor
from latentcmp.errors import HookError, InputError, LatentcmpError
from latentcmp.models import load

from .small_network import N, finite, make, probe


@pytest.fixture
def model() -> nn.Sequential:
    return make()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.update(format=0),
        lambda state: state["reference"].pop("3"),
        lambda state: state["reference"].update({"3": torch.zeros(3, 10)}),
        lambda state: state["reference"].update({"3": torch.full((N, 10), torch.nan)}),
    ],
)
def test_a_state_that_does_not_fit_is_refused(model: nn.Sequential, spoil: Callable[[dict], None]) -> None:
    monitor = DriftMonitor(model, "3", probe=probe())
    state = monitor.state_dict()
    spoil(state)
    with pytest.raises(InputError):
        monitor.load_state_dict(state)


def vanish(model: nn.Sequential) -> None:
    del model._modules["3"]


def widen(model: nn.Sequential) -> None:
    model[2], model[4] = nn.Linear(12, 350), nn.Linear(350, 1)


def bypass(model: nn.Sequential) -> None:
    model.forward = lambda x: model[4](model[3].forward(model[2](model[1](model[0](x)))))  # type: ignore[method-assign]


def diverge(model: nn.Sequential) -> None:
    nn.init.constant_(model[2].bias, torch.nan)


def collapse(model: nn.Sequential) -> None:
    nn.init.zeros_(model[2].weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (vanish, "no module '3'"),
        (widen, "350 columns now, too many"),
        (bypass, "never fired"),
        (diverge, "NaN or an infinity"),
        (collapse, "constant"),
        (lambda model: model.to("meta"), "the model is on meta, but was on cpu"),
        (lambda model: model.double(), "RuntimeError: "),
    ],
)
def test_what_goes_wrong_in_a_step_is_a_nan_with_its_reason(
    model: nn.Sequential, change: Callable[[nn.Sequential], None], words: str
) -> None:
    monitor = DriftMonitor(model, ["1", "3"], probe=probe(), every=1, local=True)
    strict = DriftMonitor(model, ["3"], probe=probe(), every=1, on_error="raise")
    change(model)
    assert monitor.step(1)
    record = monitor.compute()[0]["layers"]
    assert words in record["3"]["reason"]
    assert all(math.isnan(value) for name, value in record["3"].items() if name != "reason")
    assert len(record["3"]) == 7
    if "meta" not in words and "Runtime" not in words:
        assert finite(record["1"])  # the other layer is none the worse
    with pytest.raises((LatentcmpError, RuntimeError)):
        (strict.step(1), strict.compute())


def test_a_layer_of_another_width_is_measured_all_the_same(model: nn.Sequential) -> None:
    monitor = DriftMonitor(model, "3", probe=probe(), every=1)
    model[2], model[4] = nn.Linear(12, 20), nn.Linear(20, 1)
    monitor.step(1)
    assert finite(monitor.compute()[0]["layers"]["3"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"points": "9"}, "no module '9'"),
        ({"points": []}, "hook points with names of their own"),
        ({"probe": probe()[:10]}, "give a probe of at least 100 rows"),
        ({"probe": probe()[:, :3]}, "gives no features of layer '3'"),
        ({"probe": lambda module: None}, "never fired"),
        ({"every": 0}, "every and max_pending"),
        ({"resolve": ("species",)}, "resolve must be of elements, structures"),
        ({"on_error": "ignore"}, "on_error"),
        ({"segments": torch.arange(N - 1)}, "gives 400 rows, but the probe has 399 atoms"),
        ({"segments": torch.arange(N), "numbers": [1, 2]}, "segments hold 400 rows, numbers 2"),
        ({"numbers": [1, 2]}, "gives 400 rows, but numbers holds 2"),
        ({"numbers": torch.full((N,), 200)}, "numbers must be atomic numbers, got 200 to 200"),
        ({"numbers": torch.ones(N)}, "numbers must be atomic numbers"),
        ({"local": True, "probe": probe()[:12]}, "9 training rows for its 10 columns, too few to fit a map"),
        ({"segments": torch.arange(N) // 200}, "at least 3 groups of rows, one to test and two to train on, got 2"),
        ({"reference": {"1": torch.zeros(N, 3)}}, "expected a reference for layers 3, got 1"),
        ({"reference": {"3": torch.zeros(N, 3, 2)}}, "must hold the 400 rows"),
        ({"reference": nn.Linear(5, 2)}, "no module '3'"),
        ({"group": "world"}, "init_process_group"),
        ({"model": "chgnet"}, "model must be a torch.nn.Module or an Adapter"),
    ],
)
def test_what_does_not_fit_is_said_when_the_monitor_is_made(model: nn.Sequential, options: dict, words: str) -> None:
    with pytest.raises((InputError, HookError), match=words):
        DriftMonitor(**{"model": model, "points": "3", "probe": probe()} | options)


def test_structures_that_the_adapter_cannot_take_are_refused_at_once(all_models: None, structures: list[Atoms]) -> None:
    chgnet = load("chgnet-0.3.0")
    with pytest.raises(InputError, match="no atoms"):
        DriftMonitor(chgnet, "last", probe=[*structures[:3], Atoms()])
    with pytest.raises(InputError, match="no layer 'lats'"):
        DriftMonitor(chgnet, "lats", probe=structures[:3])
