"""Records of the drift monitor against NumPy and scikit-learn on the same activations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy import stats
from torch import nn

import latentcmp
from latentcmp import DriftMonitor, Segments
from latentcmp.errors import InputError
from latentcmp.models import Adapter, load
from latentcmp.statistics.joint_moments import Method

from .fold_oracle import GLOBAL, folds, global_error, global_squares, local_error
from .small_network import N, finite, hidden, make, probe, shaken


@pytest.fixture
def model() -> nn.Sequential:
    return make()


@pytest.mark.parametrize("method", ["gram", "qr"])
def test_errors_are_those_of_numpy_on_the_same_folds(model: nn.Sequential, method: Method) -> None:
    owner = torch.arange(N) // 5
    monitor = DriftMonitor(model, ["1", "3"], probe=probe(), segments=owner, local=True, method=method)
    before = {layer: hidden(model, layer) for layer in ("1", "3")}
    shaken(model)
    monitor.step(0)
    fold = folds(owner.tolist())
    for layer, record in monitor.compute()[0]["layers"].items():
        then, now = before[layer], hidden(model, layer)
        assert record["reason"] is None
        assert record["gfre_to_reference"] == pytest.approx(global_error(now, then, fold), rel=1e-8)
        assert record["gfre_from_reference"] == pytest.approx(global_error(then, now, fold), rel=1e-8)
        assert record["lfre_to_reference"] == pytest.approx(local_error(now, then, fold), rel=1e-6)
        assert record["lfre_from_reference"] == pytest.approx(local_error(then, now, fold), rel=1e-6)
        assert 0.05 < record["gfre_to_reference"] < 1
        x, y = (rows.double().numpy() - rows.double().numpy().mean(0) for rows in (then, now))
        cka = np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
        assert record["linear_cka"] == pytest.approx(cka, rel=1e-9)
        spectrum = np.linalg.svd(y, compute_uv=False) ** 2
        assert record["effective_rank"] == pytest.approx(np.exp(stats.entropy(spectrum)), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["gram", "qr"])
def test_a_linear_image_of_the_features_is_at_no_distance(
    model: nn.Sequential, method: Method, dtype: torch.dtype
) -> None:
    mixture = torch.randn(10, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    image = (hidden(model).double() @ mixture + 3).to(dtype)
    numbers = torch.arange(N) % 2 + 1
    monitor = DriftMonitor(model, "3", {"3": image}, probe=probe(), numbers=numbers, method=method)
    monitor.step(0)
    record = monitor.compute()[0]["layers"]["3"]
    for errors in (record, *record["elements"].values()):
        assert 0 <= errors["gfre_to_reference"] < 1e-5
        assert 0 <= errors["gfre_from_reference"] < 1e-5


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
    record, now, fold = monitor.compute()[0]["layers"]["3"], hidden(model), folds(owner.tolist())
    expected = {
        "gfre_to_reference": global_squares(now, then, fold),
        "gfre_from_reference": global_squares(then, now, fold),
    }
    for kind, names in (
        ("elements", np.array(["H", "He", "Li"])[numbers - 1]),
        ("structures", owner.numpy().astype(str)),
    ):
        assert set(record[kind]) == set(names)
        for name, found in record[kind].items():
            for direction, squares in expected.items():
                assert found[direction] == pytest.approx(np.sqrt(squares[names == name].mean()), rel=1e-8)


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
    first, second = found
    for measure in ("gfre_to_reference", "gfre_from_reference", "linear_cka", "effective_rank"):
        assert first[measure] == pytest.approx(second[measure], rel=1e-9)
    assert set(first["structures"]) == set(second["structures"])
    for name, errors in first["structures"].items():
        assert errors == pytest.approx(second["structures"][name], rel=1e-8)


@pytest.mark.parametrize("kind", ["model", "features", "itself"])
def test_the_reference_is_a_model_its_features_or_the_model_as_it_was(model: nn.Sequential, kind: str) -> None:
    other = make() if kind == "itself" else make(7)
    reference = {"model": other, "features": {"3": hidden(other)}, "itself": None}[kind]
    monitor = DriftMonitor(model, "3", reference, probe=probe())
    shaken(model)
    monitor.step(0)
    expected = global_error(hidden(other), hidden(model), folds(range(N)))
    found = monitor.compute()[0]["layers"]["3"]["gfre_from_reference"]
    assert found == pytest.approx(expected, rel=1e-8)


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
def test_rows_of_one_item_are_in_one_fold(batches: int) -> None:
    monitor = DriftMonitor(make(), "3", probe=list(probe().reshape(80, 5, 5).split(80 // batches)))
    fold = monitor._layers["3"].fold.reshape(80, 5)
    assert (fold == fold[:, :1]).all()
    assert np.bincount(fold[:, 0]).tolist() == [16] * 5


def test_few_groups_make_fewer_folds(model: nn.Sequential) -> None:
    owner = torch.arange(N) // 134
    monitor = DriftMonitor(model, "3", probe=probe(), segments=owner)
    then = hidden(model)
    shaken(model)
    monitor.step(0)
    record = monitor.compute()[0]["layers"]["3"]
    assert record["gfre_from_reference"] == pytest.approx(global_error(then, hidden(model), owner.numpy()), rel=1e-8)


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
    groups = features["chgnet-0.3.0"].ids  # each structure is a group of its own
    expected = latentcmp.compare_features(
        {name: values.values for name, values in features.items()},
        groups=[groups[i] for i in owner],
        measures=["gfre"],
        alphas=GLOBAL,
    ).gfre
    assert found["gfre_to_reference"] == pytest.approx(expected["chgnet-0.3.0", "chgnet-r2scan"], rel=1e-4)
    assert found["gfre_from_reference"] == pytest.approx(expected["chgnet-r2scan", "chgnet-0.3.0"], rel=1e-4)
    given = DriftMonitor(chgnet, "last", features["chgnet-r2scan"], probe=few)
    given.step(0)
    again = given.compute()[0]["layers"]["last"]["gfre_to_reference"]
    assert again == pytest.approx(found["gfre_to_reference"], rel=1e-4)
