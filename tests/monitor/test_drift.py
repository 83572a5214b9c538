"""Records of the drift monitor against scikit-matter on the same activations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy import stats
from torch import nn

import latentcmp
from latentcmp import DriftMonitor, Segments, metrics
from latentcmp.errors import InputError
from latentcmp.models import Adapter, load
from latentcmp.systems.split import rows_by_group

from .small_network import N, finite, hidden, make, probe, shaken

skmatter_metrics = pytest.importorskip("skmatter.metrics")


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
