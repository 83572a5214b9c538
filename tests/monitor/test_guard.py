"""A probe in the middle of a training leaves no trace: the same trajectory, bit for bit, with and without."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn

from latentcmp import DriftMonitor
from latentcmp.models import load
from latentcmp.monitor.guard import undisturbed

from .fold_oracle import global_error


class Unruly(nn.Module):
    """Everything a forward may do to its surroundings: random numbers, buffers written and replaced, settings."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4), nn.Tanh()
        )
        self.out = nn.Linear(4, 1)
        self.frozen = nn.BatchNorm1d(8).eval()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("latest", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        hidden = self.inner(x) + 1e-3 * (random.random() + np.random.rand() + torch.rand(()))
        self.latest = hidden[0].detach() + self.calls
        torch.set_default_dtype(torch.float64 if self.training is False else torch.float32)
        return self.out(hidden)


def train(make: Callable[[], nn.Module], watch: Callable[[nn.Module], DriftMonitor | None]) -> list[torch.Tensor]:
    """Twenty steps of Adam; every loss, gradient, parameter and buffer on the way."""
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    model = make()
    monitor = watch(model)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    seen = []
    for step in range(20):
        loss = model(torch.randn(16, 5)).square().mean()
        loss.backward()
        if monitor:
            assert monitor.step(step) is (step % 2 == 0)
        seen += [loss.detach(), *(value.grad.clone() for value in model.parameters() if value.grad is not None)]
        optimiser.step()
        optimiser.zero_grad()
        seen += [value.detach().clone() for value in (*model.parameters(), *model.buffers())]
    seen.append(torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))]))
    assert torch.get_default_dtype() is torch.float32
    assert [part.training for part in model.modules()].count(False) == 1
    if monitor:
        assert all(np.isfinite(r["layers"]["inner.5"]["gfre_to_reference"]) for r in monitor.compute())
    return seen


def probe() -> torch.Tensor:
    return torch.randn(300, 5, generator=torch.Generator().manual_seed(1))


def test_a_training_with_the_monitor_is_the_training_without_bit_for_bit() -> None:
    bare = train(Unruly, lambda model: None)
    watched = train(Unruly, lambda model: DriftMonitor(model, ["inner.5", "inner.1"], probe=probe(), every=2))
    assert len(bare) == len(watched)
    for expected, found in zip(bare, watched, strict=True):
        assert torch.equal(expected, found)


def test_a_failing_forward_leaves_no_trace_either() -> None:
    model = Unruly()
    monitor = DriftMonitor(model, "inner.5", probe=probe(), every=1)
    before = torch.get_rng_state(), model.calls.clone(), model.latest

    def broken(x: torch.Tensor) -> torch.Tensor:
        model.calls += 1
        model.latest = torch.rand(4)
        raise RuntimeError("out of luck")

    model.forward = broken  # type: ignore[method-assign]
    assert monitor.step(1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(model.calls, before[1])
    assert model.latest is before[2]
    assert model.training
    assert torch.is_grad_enabled()
    assert "out of luck" in monitor.compute()[0]["layers"]["inner.5"]["reason"]


def test_settings_around_the_block_come_back_and_do_not_reach_into_it() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        with undisturbed(model):
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()
            assert not model[1].training
            assert model(torch.ones(2, 3)).dtype is torch.float32
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    assert model[1].training


def test_no_hook_hangs_in_the_model_between_probes() -> None:
    model = Unruly()
    monitor = DriftMonitor(model, ["inner.5"], probe=probe())
    monitor.step(0)
    assert not any(part._forward_hooks for part in model.modules())


def test_a_training_of_chgnet_is_the_same_with_the_monitor(all_models: None, structures: list[Atoms]) -> None:
    def trained(watch: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        adapter = load("chgnet-0.3.0")
        model = adapter.module.train()
        monitor = (
            DriftMonitor(adapter, ["last", "backbone"], probe=structures[:48:3], every=2, local=True) if watch else None
        )
        batch = [adapter.graph(atoms) for atoms in structures[1:4]]
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        for step in range(4):
            found = model(batch, task="ef")
            loss = found["e"].square().mean() + sum(force.square().mean() for force in found["f"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if monitor:
                monitor.step(step)
        if monitor:
            first, second = (record["layers"]["last"] for record in monitor.compute())
            assert 0 < first["gfre_to_reference"] < second["gfre_to_reference"]
            assert set(first["elements"]) <= {"Na", "Cl", "Cu", "Ga", "As", "Si", "Mg", "O", "Fe"}
        return [value.detach() for value in (*model.parameters(), *model.buffers())] + [torch.rand(3)]

    for expected, found in zip(trained(False), trained(True), strict=True):
        assert torch.equal(expected, found)


def test_a_probe_of_sevennet_leaves_everything_as_it_was(all_models: None, structures: list[Atoms]) -> None:
    adapter = load("sevennet-0", trust=True)
    module = adapter.module.train()
    for value in module.parameters():
        value.grad = torch.ones_like(value)
    monitor = DriftMonitor(adapter, "last", probe=structures[:48:3], every=1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags, state = [part.training for part in module.modules()], torch.get_rng_state()
    assert monitor.step(0)
    assert [part.training for part in module.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value.grad, torch.ones_like(value)) for value in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    layer = monitor._layers["last"]
    unchanged = global_error(layer.reference, layer.reference, layer.fold)  # 1e-4: few rows for 64 columns
    assert monitor.compute()[0]["layers"]["last"]["gfre_to_reference"] == pytest.approx(unchanged, rel=1e-6)


def test_only_what_was_written_is_copied_back() -> None:
    model = nn.BatchNorm1d(3)
    version = model.running_mean._version  # type: ignore[union-attr]
    with undisturbed(model):
        model(torch.randn(4, 3))
    assert model.running_mean._version == version  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="stop"), undisturbed(model):
        model.running_mean += 1  # type: ignore[operator]
        raise ValueError("stop")
    assert torch.equal(model.running_mean, torch.zeros(3))  # type: ignore[arg-type]
