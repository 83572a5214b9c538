"""States of accumulators: rows that follow give the same bits as without a state, and another state is refused."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.statistics import blocked_accumulators
from latentcmp.statistics.element_sums import ElementSums
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.moments import Moments
from latentcmp.statistics.row_keys import row_keys
from latentcmp.statistics.row_sample import AtomSample

WIDTHS = {"a": 12, "b": 20}
N, CUT = 900, 517
Result = list[torch.Tensor]
SAMPLE = {"widths": WIDTHS, "capacity": 40, "seed": 3, "labels": ["row"]}


def features() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(N, 9))
    return {name: torch.from_numpy(np.tanh(latent @ rng.normal(size=(9, width)))) for name, width in WIDTHS.items()}


def rows(start: int, stop: int) -> dict[str, torch.Tensor]:
    return {name: values[start:stop] for name, values in features().items()}


class Joint:
    """Joint statistics of one method and number of parts."""

    def __init__(self, method: str, n_parts: int = 3) -> None:
        self.method, self.n_parts = method, n_parts

    def empty(self) -> JointStatistics:
        return JointStatistics(WIDTHS, self.method, n_parts=self.n_parts)  # type: ignore[arg-type]

    def update(self, statistics: JointStatistics, start: int, stop: int) -> None:
        part = torch.from_numpy(np.random.default_rng(1).integers(self.n_parts, size=N))
        statistics.update(rows(start, stop), part[start:stop])

    def result(self, statistics: JointStatistics) -> Result:
        return statistics.compute().tensors()


class Sample:
    """Samples with a label."""

    def empty(self) -> AtomSample:
        return AtomSample(**SAMPLE)  # type: ignore[arg-type]

    def update(self, sample: AtomSample, start: int, stop: int) -> None:
        keys = row_keys(["rows"], [N], seed=3)[start:stop]
        sample.update(keys, rows(start, stop), {"row": np.arange(start, stop)})

    def result(self, sample: AtomSample) -> Result:
        keys, values, labels = sample.compute()
        return [torch.from_numpy(keys.view(np.int64)), *values.values(), torch.from_numpy(labels["row"])]


class Cumulants:
    """Moments of three systems, of which every update holds rows."""

    def empty(self) -> Moments:
        return Moments(3, 12, 4)

    def update(self, moments: Moments, start: int, stop: int) -> None:
        n = stop - start
        moments.update(rows(start, stop)["a"], torch.tensor([0, n // 4, n // 2, n]))

    def result(self, moments: Moments) -> Result:
        return [moments.compute()]


class ByElement:
    """Sums by element, about a pivot that the state has to carry."""

    def empty(self) -> ElementSums:
        return ElementSums(WIDTHS, 4, pivot=torch.linspace(-1, 1, 32))

    def update(self, sums: ElementSums, start: int, stop: int) -> None:
        labels = torch.from_numpy(np.random.default_rng(1).integers(4, size=(2, N)))[:, start:stop]
        sums.update(rows(start, stop), labels[0], 29 * labels[1])

    def result(self, sums: ElementSums) -> Result:
        return list(sums.compute())


KINDS: dict[str, Any] = {
    "qr": Joint("qr"),
    "gram": Joint("gram"),
    "gram of 7 parts": Joint("gram", 7),
    "sample": Sample(),
    "moments": Cumulants(),
    "elements": ByElement(),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(blocked_accumulators, "BLOCK", 64)
    return KINDS[request.param]


def filled(kind: Any, *edges: int) -> Any:
    accumulator = kind.empty()
    for start, stop in pairwise(edges):
        kind.update(accumulator, start, stop)
    return accumulator


def same(ours: Result, theirs: Result) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def through_memory(accumulator: Any, kind: Any, folder: Path) -> Any:
    other = kind.empty()
    kind.update(other, 0, 30)
    other.load_state_dict(accumulator.state_dict())
    return other


def through_torch(accumulator: Any, kind: Any, folder: Path) -> Any:
    torch.save(accumulator.state_dict(), folder / "state.pt")
    other = kind.empty()
    other.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    return other


def through_a_file(accumulator: Any, kind: Any, folder: Path) -> Any:
    if isinstance(accumulator, Moments | ElementSums):
        pytest.skip("it has no files of its own")
    accumulator.save(folder / "state.safetensors")
    return type(accumulator).load(folder / "state.safetensors")


@pytest.mark.parametrize("way", [through_memory, through_torch, through_a_file])
@pytest.mark.parametrize("cut", [0, 5, CUT, N])
def test_a_loaded_state_continues_with_the_same_bits(
    kind: Any, way: Callable[[Any, Any, Path], Any], cut: int, tmp_path: Path
) -> None:
    expected = kind.result(filled(kind, 0, cut, N)) if cut not in (0, N) else kind.result(filled(kind, 0, N))
    accumulator = filled(kind, 0, cut) if cut else kind.empty()
    loaded = way(accumulator, kind, tmp_path)
    for continued in (accumulator, loaded):
        if cut < N:
            kind.update(continued, cut, N)
        assert same(kind.result(continued), expected)


def test_a_result_in_between_does_not_change_a_bit(kind: Any) -> None:
    accumulator = filled(kind, 0, CUT)
    before = [tensor.clone() for tensor in kind.result(accumulator)]
    result = kind.result(accumulator)
    kind.update(accumulator, CUT, N)
    assert same(result, before)
    assert same(kind.result(accumulator), kind.result(filled(kind, 0, CUT, N)))


def test_a_state_is_not_changed_by_later_rows(kind: Any) -> None:
    accumulator, other = filled(kind, 0, CUT), kind.empty()
    state = accumulator.state_dict()
    kind.update(accumulator, CUT, N)
    other.load_state_dict(state)
    assert same(kind.result(other), kind.result(filled(kind, 0, CUT)))
    kind.update(other, CUT, N)
    other.load_state_dict(state)
    assert same(kind.result(other), kind.result(filled(kind, 0, CUT)))


def test_reset_is_the_beginning(kind: Any) -> None:
    accumulator = filled(kind, 0, CUT)
    accumulator.reset()
    kind.update(accumulator, 0, N)
    assert same(kind.result(accumulator), kind.result(filled(kind, 0, N)))


OTHERS: dict[str, list[Callable[[], Any]]] = {
    "qr": [
        lambda: JointStatistics(WIDTHS, "gram"),
        lambda: JointStatistics({"a": 12, "b": 21}),
        lambda: JointStatistics({"b": 20, "a": 12}),
        lambda: JointStatistics({"a": 12, "c": 20}),
        lambda: JointStatistics(WIDTHS, n_parts=7),
        lambda: Moments(3, 12),
    ],
    "gram of 7 parts": [
        lambda: JointStatistics(WIDTHS, "gram"),
        lambda: JointStatistics(WIDTHS, "qr", n_parts=7),
        lambda: JointStatistics(WIDTHS, "gram", n_parts=6),
    ],
    "sample": [
        lambda: AtomSample(**(SAMPLE | {"widths": {"a": 12}})),  # type: ignore[arg-type]
        lambda: AtomSample(**(SAMPLE | {"capacity": 41})),  # type: ignore[arg-type]
        lambda: AtomSample(**(SAMPLE | {"seed": 0})),  # type: ignore[arg-type]
        lambda: AtomSample(**(SAMPLE | {"labels": ["owner"]})),  # type: ignore[arg-type]
        lambda: JointStatistics(WIDTHS),
    ],
    "elements": [
        lambda: ElementSums(WIDTHS, 5),
        lambda: ElementSums({"b": 20, "a": 12}, 4),
        lambda: JointStatistics(WIDTHS),
    ],
    "moments": [
        lambda: Moments(4, 12),
        lambda: Moments(3, 11),
        lambda: Moments(3, 12, 5),
        lambda: AtomSample(WIDTHS, 3),
    ],
}


@pytest.mark.parametrize(("name", "index"), [(name, i) for name, others in OTHERS.items() for i in range(len(others))])
def test_a_state_of_another_accumulator_is_refused(name: str, index: int) -> None:
    state = filled(KINDS[name], 0, 100).state_dict()
    with pytest.raises(InputError, match="cannot be loaded by an accumulator of"):
        OTHERS[name][index]().load_state_dict(state)


def test_a_state_of_other_tensors_is_refused(kind: Any) -> None:
    state = filled(kind, 0, 100).state_dict()
    names = [name for name in state if name != "metadata"]
    with pytest.raises(InputError, match="cannot be loaded by an accumulator of"):
        kind.empty().load_state_dict({name: state[name] for name in names})
    for name in names:
        for changed in (state[name].to(torch.complex64), state[name][None].expand(2, *state[name].shape)):
            if "features" in name and changed.is_complex():
                continue  # features of a sample have any dtype
            with pytest.raises(InputError, match="the state holds tensors"):
                kind.empty().load_state_dict({**state, name: changed})
    with pytest.raises(InputError, match="the state holds tensors"):
        kind.empty().load_state_dict({**state, "more": torch.zeros(1)})


def test_the_state_of_a_device_is_loaded_on_a_cpu_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = filled(KINDS["qr"], 0, N)
    on_device = JointStatistics(WIDTHS, device="meta")
    on_device.load_state_dict(expected.state_dict())
    assert {name: tensor.device.type for name, tensor in on_device.state_dict().items() if name != "metadata"} == (
        dict.fromkeys(["counts", "pivot", "fold_1/total", "fold_2/total", "test/total"], "meta")
    )
    moments = expected.compute()
    state = dict(zip(("fold_1/total", "fold_2/total", "test/total"), moments.parts, strict=True))
    metadata = expected.state_dict()["metadata"]
    loaded = JointStatistics(WIDTHS)
    loaded.load_state_dict({"counts": moments.counts, "pivot": moments.pivot, **state, "metadata": metadata})
    assert same(loaded.compute().tensors(), moments.tensors())


def test_statistics_of_one_pivot_sum_to_those_of_all_rows() -> None:
    part = torch.from_numpy(np.random.default_rng(1).integers(3, size=N))
    pivot = torch.linspace(-1, 1, sum(WIDTHS.values()), dtype=torch.float64)
    first, second = (JointStatistics(WIDTHS, "gram", pivot=pivot) for _ in range(2))
    first.update(rows(0, CUT), part[:CUT])
    second.update(rows(CUT, N), part[CUT:])
    summed = first.compute().parts + second.compute().parts
    for index in range(3):
        x = torch.cat([values[part == index] for values in features().values()], dim=1).numpy() - pivot.numpy()
        squares = [(block**2).sum(1, keepdims=True) for block in np.split(x, [12], axis=1)]
        augmented = np.hstack([np.ones((len(x), 1)), x, *squares])
        np.testing.assert_allclose(summed[index].numpy(), augmented.T @ augmented, rtol=1e-11, atol=1e-11)
    with pytest.raises(InputError, match=r"pivot must be \[32\], the columns of all, got \(3,\)"):
        JointStatistics(WIDTHS, pivot=torch.zeros(3))
