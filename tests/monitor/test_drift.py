"""Records of the drift monitor against scikit-matter on the same activations, and what goes wrong."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy import stats
from torch import nn

import latentcmp
from latentcmp import DriftMonitor, Segments, metrics
from latentcmp.errors import HookError, InputError, LatentcmpError
from latentcmp.models import Adapter, load
from latentcmp.systems.split import rows_by_group

skmatter_metrics = pytest.importorskip("skmatter.metrics")
N = 400


def make(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 1))


def probe() -> torch.Tensor:
    return torch.randn(N, 5, generator=torch.Generator().manual_seed(1))


def shaken(model: nn.Module, size: float = 0.3) -> None:
    """Move every weight, as a training would."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            value += size * torch.randn(value.shape, generator=generator)


def hidden(model: nn.Module, layer: str = "3", x: torch.Tensor | None = None) -> torch.Tensor:
    with latentcmp.tap(model, layer) as taps:
        model(probe() if x is None else x)
    return taps[layer]


def finite(record: dict) -> bool:
    return all(math.isfinite(record[name]) for name in ("gfre_to_reference", "linear_cka", "effective_rank"))


@pytest.fixture
def model() -> nn.Sequential:
    return make()


def test_errors_are_those_of_scikit_matter_on_the_same_rows(model: nn.Sequential) -> None:
    owner = torch.arange(N) // 5
    monitor = DriftMonitor(model, ["1", "3"], probe=probe(), segments=owner, local=True)
    before = {layer: hidden(model, layer) for layer in ("1", "3")}
    shaken(model)
    monitor.step(0)
    test = np.flatnonzero(rows_by_group([str(system) for system in owner.tolist()], N))
    train = np.setdiff1d(np.arange(N), test)
    for layer, record in monitor.compute()[0]["layers"].items():
        then, now = before[layer].double().numpy(), hidden(model, layer).double().numpy()
        split = {"train_idx": train, "test_idx": test}
        gfre, lfre = skmatter_metrics.global_reconstruction_error, skmatter_metrics.local_reconstruction_error
        k = then.shape[1]
        assert record["reason"] is None
        assert record["gfre_to_reference"] == pytest.approx(gfre(now, then, **split), rel=1e-8)
        assert record["gfre_from_reference"] == pytest.approx(gfre(then, now, **split), rel=1e-8)
        assert record["lfre_to_reference"] == pytest.approx(lfre(now, then, k, **split), rel=1e-6)
        assert record["lfre_from_reference"] == pytest.approx(lfre(then, now, k, **split), rel=1e-6)
        assert 0.05 < record["gfre_to_reference"] < 1
        a, b = then[train] - then[train].mean(0), now[train] - now[train].mean(0)
        cka = np.linalg.norm(a.T @ b) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b)
        assert record["linear_cka"] == pytest.approx(cka, rel=1e-9)
        spectrum = np.linalg.svd(b, compute_uv=False) ** 2
        assert record["effective_rank"] == pytest.approx(np.exp(stats.entropy(spectrum)), rel=1e-9)


@pytest.mark.parametrize("local", [False, True])
def test_errors_by_element_and_structure_are_the_rows_of_the_whole(model: nn.Sequential, local: bool) -> None:
    owner = torch.arange(N) // 8
    numbers = torch.randint(1, 4, (N,), generator=torch.Generator().manual_seed(3))
    monitor = DriftMonitor(
        model, "3", probe=probe(), segments=owner, numbers=numbers, resolve=("elements", "structures"), local=local
    )
    then = hidden(model)
    shaken(model)
    monitor.step(0)
    record = monitor.compute()[0]["layers"]["3"]
    test = np.flatnonzero(rows_by_group([str(system) for system in owner.tolist()], N))
    errors = metrics.pointwise_global_reconstruction_error(hidden(model), then, test).numpy()
    for kind, names in (
        ("elements", np.array(["H", "He", "Li"])[numbers - 1]),
        ("structures", owner.numpy().astype(str)),
    ):
        assert set(record[kind]) == set(names[test])
        for name, found in record[kind].items():
            expected = np.sqrt(np.mean(errors[names[test] == name] ** 2))
            assert found["gfre_to_reference"] == pytest.approx(expected, rel=1e-8)


def test_rows_out_of_order_follow_their_structures(model: nn.Sequential) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(4))
    owner = torch.arange(N) // 8
    found = []
    for batch, segments in ((probe(), owner), (probe()[order], Segments.from_index(owner[order]))):
        moved = make()
        monitor = DriftMonitor(moved, "3", probe=batch, segments=segments, resolve=("structures",))
        shaken(moved)
        monitor.step(0)
        found.append(monitor.compute()[0]["layers"]["3"])
    assert set(found[0]["structures"]) == set(found[1]["structures"])
    assert found[0]["effective_rank"] == pytest.approx(found[1]["effective_rank"], rel=1e-9)  # no folds in it


@pytest.mark.parametrize("kind", ["model", "features", "itself"])
def test_the_reference_is_a_model_its_features_or_the_model_as_it_was(model: nn.Sequential, kind: str) -> None:
    other = make() if kind == "itself" else make(7)
    reference = {"model": other, "features": {"3": hidden(other)}, "itself": None}[kind]
    monitor = DriftMonitor(model, "3", reference, probe=probe())
    shaken(model)
    monitor.step(0)
    test = np.flatnonzero(rows_by_group([str(row) for row in range(N)], N))
    expected = metrics.global_reconstruction_error(hidden(other), hidden(model), test)
    found = monitor.compute()[0]["layers"]["3"]["gfre_from_reference"]
    assert found == pytest.approx(float(expected), rel=1e-8)


def test_a_probe_of_several_batches_in_any_form_is_one_probe(model: nn.Sequential) -> None:
    whole = probe()
    forms: list = [
        whole,
        [whole[:150], whole[150:]],
        [(whole[:150],), {"input": whole[150:]}],
        lambda module: module(whole),
    ]
    monitors = [DriftMonitor(model, "3", probe=form) for form in forms]
    shaken(model)
    for monitor in monitors:
        monitor.step(0)
    records = [monitor.compute()[0]["layers"]["3"]["gfre_to_reference"] for monitor in monitors]
    assert records == pytest.approx([records[0]] * len(forms), rel=1e-5)  # float32 forwards of other batch sizes


@pytest.mark.parametrize("batches", [80, 16, 1])
def test_rows_of_one_item_stay_on_one_side_of_the_split(batches: int) -> None:
    monitor = DriftMonitor(make(), "3", probe=list(probe().reshape(80, 5, 5).split(80 // batches)))
    part = monitor._layers["3"].part.reshape(80, 5)
    assert torch.equal((part == 2).all(1), (part == 2).any(1))
    assert 0 < int((part == 2).all(1).sum()) < 80


def test_the_probe_runs_when_a_multiple_of_every_was_passed(model: nn.Sequential) -> None:
    monitor = DriftMonitor(model, "3", probe=probe(), every=10)
    assert [step for step in (3, 4, 9, 10, 15, 37, 38, 39, 40) if monitor.step(step)] == [3, 10, 37, 40]
    assert [record["step"] for record in monitor.compute()] == [3, 10, 37, 40]


def test_probes_that_wait_are_settled_before_they_fill_the_memory(model: nn.Sequential) -> None:
    monitor = DriftMonitor(model, "3", probe=probe(), every=1, max_pending=2)
    for step in range(5):
        monitor.step(step)
        assert len(monitor._pending) < 2
    assert len(monitor.compute()) == 5


def test_records_of_the_caller_are_copies(model: nn.Sequential) -> None:
    monitor = DriftMonitor(model, "3", probe=probe())
    monitor.step(0)
    monitor.compute()[0]["layers"].clear()
    assert monitor.compute()[0]["layers"]


def test_a_training_taken_up_again_goes_on_with_records_and_reference(model: nn.Sequential, tmp_path: Path) -> None:
    monitor = DriftMonitor(model, ["1", "3"], probe=probe(), every=10)
    shaken(model, 0.1)
    monitor.step(0)
    torch.save(monitor.state_dict(), tmp_path / "state.pt")
    resumed = DriftMonitor(model, ["1", "3"], probe=probe(), every=10)  # its own reference would be the moved model
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert not resumed.step(5)
    shaken(model)
    assert monitor.step(10)
    assert resumed.step(10)
    assert resumed.compute() == monitor.compute()


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
        ({"local": True, "test_fraction": 0.99}, "too few to fit"),
        ({"reference": {"1": torch.zeros(N, 3)}}, "expected a reference for layers 3, got 1"),
        ({"reference": {"3": torch.zeros(N, 3, 2)}}, "must hold the 400 rows"),
        ({"reference": nn.Linear(5, 2)}, "no module '3'"),
        ({"group": "world"}, "not initialised"),
        ({"model": "chgnet"}, "model must be a torch.nn.Module or an Adapter"),
    ],
)
def test_what_does_not_fit_is_said_when_the_monitor_is_made(model: nn.Sequential, options: dict, words: str) -> None:
    with pytest.raises((InputError, HookError), match=words):
        DriftMonitor(**{"model": model, "points": "3", "probe": probe()} | options)


def test_compiled_and_wrapped_models_are_probed_as_they_are_inside(model: nn.Sequential) -> None:
    compiled = torch.compile(model, backend="eager")
    compiled(probe())
    monitor = DriftMonitor(compiled, "3", probe=probe())  # type: ignore[arg-type]
    monitor.step(0)
    assert finite(monitor.compute()[0]["layers"]["3"])


def test_modules_that_differentiate_inside_are_probed_with_gradients() -> None:
    class Forces(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.clone().requires_grad_()
            return torch.autograd.grad(self.net(x).sum(), x)[0]

    model = Forces()
    with pytest.raises(InputError, match="does not require grad"):
        DriftMonitor(model, "net.3", probe=probe())
    monitor = DriftMonitor(model, "net.3", probe=probe(), gradients=True)
    monitor.step(0)
    assert finite(monitor.compute()[0]["layers"]["net.3"])
    assert all(value.grad is None for value in model.parameters())


@pytest.fixture(scope="module")
def chgnet(all_models: None) -> Adapter:
    return load("chgnet-0.3.0")


def test_an_adapter_against_another_pretrained_model(chgnet: Adapter, structures: list[Atoms]) -> None:
    few = structures[:40]
    monitor = DriftMonitor(chgnet, "last", load("chgnet-r2scan"), probe=few, resolve=("elements", "structures"))
    monitor.step(0)
    found = monitor.compute()[0]["layers"]["last"]
    features = {name: latentcmp.extract(name, few, device="cpu") for name in ("chgnet-0.3.0", "chgnet-r2scan")}
    owner = np.repeat(np.arange(len(few)), [len(atoms) for atoms in few])
    groups = [latentcmp.systems.system.digest(atoms) for atoms in few]
    expected = latentcmp.compare_features(
        {name: values.values for name, values in features.items()}, groups=[groups[i] for i in owner]
    ).gfre
    assert found["gfre_to_reference"] == pytest.approx(expected["chgnet-0.3.0", "chgnet-r2scan"], rel=1e-4)
    assert found["gfre_from_reference"] == pytest.approx(expected["chgnet-r2scan", "chgnet-0.3.0"], rel=1e-4)
    given = DriftMonitor(chgnet, "last", features["chgnet-r2scan"], probe=few)
    given.step(0)
    again = given.compute()[0]["layers"]["last"]["gfre_to_reference"]
    assert again == pytest.approx(found["gfre_to_reference"], rel=1e-4)


def test_structures_that_the_adapter_cannot_take_are_refused_at_once(chgnet: Adapter, structures: list[Atoms]) -> None:
    with pytest.raises(InputError, match="no atoms"):
        DriftMonitor(chgnet, "last", probe=[*structures[:3], Atoms()])
    with pytest.raises(InputError, match="no layer 'lats'"):
        DriftMonitor(chgnet, "lats", probe=structures[:3])
