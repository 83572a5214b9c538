"""Streamed statistics against scikit-matter on the rows themselves, and against damage."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcmp import metrics
from latentcmp._runtime.settings import one_torch_thread
from latentcmp.errors import InputError
from latentcmp.features.data import Features
from latentcmp.statistics import joint, part_accumulators
from latentcmp.statistics.joint import JointStatistics
from latentcmp.statistics.joint_moments import Method
from latentcmp.systems.folds import halves, two_folds

skmatter_metrics = pytest.importorskip("skmatter.metrics")
WIDTHS = {"a": 12, "b": 20, "c": 7}


def matrices(n: int = 400, smallest: float = 1.0, mean: float = 0.0, seed: int = 0) -> dict[str, torch.Tensor]:
    """Three related feature matrices whose sources have singular values down to `smallest`."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 16))
    found = {}
    for name, width in WIDTHS.items():
        values = np.tanh(latent @ rng.normal(size=(16, width))) + 0.05 * rng.normal(size=(n, width))
        left, _, right = np.linalg.svd(values - values.mean(0), full_matrices=False)
        found[name] = torch.from_numpy(left * np.geomspace(1, smallest, width) @ right + mean)
    return found


def parts_of(n: int) -> torch.Tensor:
    """Parts that repeat the default split and folds of scikit-matter."""
    train, test = halves(n)
    part = torch.empty(n, dtype=torch.int64)
    part[torch.from_numpy(test)] = 2
    for fold, rows in enumerate(two_folds(len(train))):
        part[torch.from_numpy(train[rows])] = fold
    return part


def filled(features: dict[str, torch.Tensor], method: str, *cuts: int) -> JointStatistics:
    """Statistics of the rows, cut into updates."""
    n = len(next(iter(features.values())))
    part = parts_of(n)
    statistics = JointStatistics({name: values.shape[1] for name, values in features.items()}, method)  # type: ignore[arg-type]
    edges = [0, *cuts, n]
    for start, stop in pairwise(edges):
        statistics.update({name: values[start:stop] for name, values in features.items()}, part[start:stop])
    return statistics


def oracle(features: dict[str, torch.Tensor], function: str) -> np.ndarray:
    score = getattr(skmatter_metrics, function)
    return np.array([[score(x.numpy(), y.numpy()) for y in features.values()] for x in features.values()])


@pytest.fixture(params=["CPU", "parts on the CPU", "parts on the device"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of rows on a CPU, and those on other devices, which must come to the same."""
    if request.param != "CPU":
        kinds = {"gram": part_accumulators.GramAccumulator, "qr": part_accumulators.FactorAccumulator}

        def empty_parts(
            n_parts: int, method: Method, columns: list[int], _: torch.device
        ) -> list[part_accumulators.PartAccumulator]:
            totals = torch.zeros(n_parts, sum(columns), sum(columns), dtype=torch.float64)
            return [kinds[method](total, columns) for total in totals]

        monkeypatch.setattr(joint, "empty_parts", empty_parts)
    if request.param == "parts on the device":
        monkeypatch.setattr(JointStatistics, "_add_selected", JointStatistics._add_masked)
    monkeypatch.setattr(joint, "CHUNK", 150)
    monkeypatch.setattr(part_accumulators, "CHUNK", 150)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("smallest", "mean"), [(1.0, 0.0), (1e-4, 3.0), (1e-9, 0.0), (1e-6, 3.0)])
def test_errors_of_r_factors_agree_with_scikit_matter(smallest: float, mean: float) -> None:
    features = matrices(smallest=smallest, mean=mean)
    found = filled(features, "qr", 50, 51, 200).errors().numpy()
    np.testing.assert_allclose(found, oracle(features, "global_reconstruction_error"), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("parts_lie_on", ["cpu", "meta"])
@pytest.mark.parametrize("method", ["qr", "gram"])
def test_an_update_on_a_device_reads_no_value_back_and_stays_in_place(method: str, parts_lie_on: str) -> None:
    statistics = JointStatistics(WIDTHS, method, device="meta")  # type: ignore[arg-type]
    before = [*(part.total for part in statistics._parts), statistics._counts]
    features = {name: torch.empty(300, width, device="meta") for name, width in WIDTHS.items()}
    part = torch.zeros(300, dtype=torch.int64, device=parts_lie_on)
    with pytest.raises(RuntimeError, match="meta"):
        bool(features["a"].any())  # as any read of a value would
    for _ in range(2):
        statistics.update(features, part)
    after = [*(part.total for part in statistics._parts), statistics._counts]
    assert all(ours is theirs for ours, theirs in zip(after, before, strict=True))
    assert statistics.compute().parts.is_meta


@pytest.mark.usefixtures("way")
def test_errors_of_gram_matrices_agree_where_they_can_see() -> None:
    features = matrices(smallest=1e-3, mean=3.0)
    found = filled(features, "gram", 100).errors().numpy()
    expected = oracle(features, "global_reconstruction_error")
    off_diagonal = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(found[off_diagonal], expected[off_diagonal], rtol=1e-8)
    assert found.diagonal().max() < 1e-6


def test_a_gram_matrix_cuts_where_it_cannot_see() -> None:
    features = matrices(smallest=1e-12)
    statistics = filled(features, "gram")
    ours = statistics.errors(alphas=np.array([1e-9])).numpy()
    cut = filled(features, "qr").errors(alphas=np.array([1e-7])).numpy()
    off_diagonal = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(
        ours[off_diagonal], cut[off_diagonal], rtol=0.1
    )  # a Gram matrix knows values at its cut to per cents only


def test_distortions_agree_with_the_metrics() -> None:
    features = matrices()
    found = filled(features, "qr", 120).errors("gfrd").numpy()
    for i, x in enumerate(features.values()):
        for j, y in enumerate(features.values()):
            assert found[i, j] == pytest.approx(
                float(metrics.global_reconstruction_distortion(x, y)), rel=1e-8, abs=1e-9
            )


def test_real_features(chgnet_features: Features, sevennet_features: Features) -> None:
    features = {"chgnet": chgnet_features.values, "sevennet": sevennet_features.values}
    found = filled(features, "qr", 100, 500).errors().numpy()
    doubled = {name: values.double() for name, values in features.items()}
    np.testing.assert_allclose(found, oracle(doubled, "global_reconstruction_error"), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", ["qr", "gram"])
def test_merged_shards_are_the_whole(method: str, tmp_path: Path) -> None:
    features = matrices(mean=2.0)
    part = parts_of(400)
    shards = []
    for rows in torch.arange(400).split(130):
        shard = JointStatistics(WIDTHS, method)  # type: ignore[arg-type]
        shard.update({name: values[rows] for name, values in features.items()}, part[rows])
        shard.save(tmp_path / f"{len(shards)}.safetensors")
        shards.append(JointStatistics.load(tmp_path / f"{len(shards)}.safetensors"))
    merged = JointStatistics(WIDTHS, method)  # type: ignore[arg-type]
    for shard in shards[::-1]:
        merged.merge(shard)
    assert merged.compute().counts.tolist() == [100, 100, 200]
    torch.testing.assert_close(merged.errors(), filled(features, method).errors(), rtol=1e-10, atol=1e-7)


def test_float32_rows_of_a_huge_mean_lose_nothing() -> None:
    features = {name: (values + 1e4).float() for name, values in matrices().items()}
    doubled = {name: values.double() for name, values in features.items()}
    found = filled(features, "qr", 200).errors().numpy()
    np.testing.assert_allclose(found, oracle(doubled, "global_reconstruction_error"), rtol=1e-7, atol=1e-9)


def test_reset_forgets() -> None:
    features = matrices()
    statistics = filled(features, "qr")
    expected = statistics.errors()
    statistics.reset()
    with pytest.raises(InputError, match="got 0 in fold 1, 0 in fold 2, 0 in test"):
        statistics.errors()
    statistics.update(features, parts_of(400))
    torch.testing.assert_close(statistics.errors(), expected, rtol=1e-12, atol=1e-12)


def test_bad_input_is_named() -> None:
    statistics, features = JointStatistics(WIDTHS), matrices()
    part = parts_of(400)
    with pytest.raises(InputError, match="expected features of a, b, c, got a"):
        statistics.update({"a": features["a"]}, part)
    with pytest.raises(InputError, match=r"b must be \[400, 20\] on cpu, got \(400, 19\)"):
        statistics.update({**features, "b": features["b"][:, 1:]}, part)
    with pytest.raises(InputError, match=r"part must be \[n\] int64 on cpu, got torch.float32 \(400,\)"):
        statistics.update(features, part.float())
    with pytest.raises(InputError, match=r"part must be 0 .* got \[1, 2, 3\]"):
        statistics.update(features, part + 1)
    with pytest.raises(InputError, match=r"same widths, method and parts merge, got qr of .* in 3 parts and gram of"):
        statistics.merge(JointStatistics(WIDTHS, "gram"))
    with pytest.raises(InputError, match="qr, gram"):
        JointStatistics(WIDTHS, "svd")  # type: ignore[arg-type]
    for widths in ({}, {"a": 0}, {"a": "x"}, [3, 4]):
        with pytest.raises(InputError, match="widths must name"):
            JointStatistics(widths)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="statistics give gfre and gfrd"):
        filled(features, "qr").errors("lfre")
    with pytest.raises(InputError, match="b is constant"):
        filled({**features, "b": torch.full_like(features["b"], 0.1)}, "qr").errors()


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("method", ["qr", "gram"])
def test_a_nan_is_found_by_name_in_every_part(method: str, part: int) -> None:
    features = matrices()
    features["b"][parts_of(400).tolist().index(part), 2] = torch.nan
    with pytest.raises(InputError, match="b held a NaN or an infinity"):
        filled(features, method).errors()


def test_gram_matrices_see_small_matrices_beside_large_ones() -> None:
    features = matrices(smallest=1e-3)
    features["a"] = 1e5 * features["a"]
    off_diagonal = ~np.eye(3, dtype=bool)
    found = filled(features, "gram", 100).errors().numpy()[off_diagonal]
    np.testing.assert_allclose(found, oracle(features, "global_reconstruction_error")[off_diagonal], rtol=1e-8)


def in_parts(features: dict[str, torch.Tensor], method: Method, n_parts: int, *cuts: int) -> JointStatistics:
    """Statistics of the rows, the part of each its number modulo `n_parts`, cut into updates."""
    n = len(next(iter(features.values())))
    statistics = JointStatistics(WIDTHS, method, n_parts=n_parts)
    for start, stop in pairwise([0, *cuts, n]):
        rows = {name: values[start:stop] for name, values in features.items()}
        statistics.update(rows, torch.arange(start, stop) % n_parts)
    return statistics


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("n_parts", [1, 5, 20])
@pytest.mark.parametrize("method", ["qr", "gram"])
def test_every_part_has_the_moments_of_its_rows(method: Method, n_parts: int) -> None:
    features = matrices(mean=3.0)
    moments = in_parts(features, method, n_parts, 50, 51, 200).compute()
    assert moments.counts.tolist() == [400 // n_parts] * n_parts
    for part, found in enumerate(moments.parts):
        blocks = [values[part::n_parts].numpy() for values in features.values()]
        rows = np.hstack(blocks) - moments.pivot.numpy()
        squares = [(block**2).sum(1, keepdims=True) for block in np.split(rows, [12, 32], axis=1)]
        augmented = np.hstack([np.ones((len(rows), 1)), rows, *squares])
        gram = found if method == "gram" else found.T @ found
        np.testing.assert_allclose(gram.numpy(), augmented.T @ augmented, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("n_parts", [3, 20])
@pytest.mark.parametrize("method", ["qr", "gram"])
def test_statistics_of_rows_in_memory_have_the_bits_of_one_update(method: Method, n_parts: int) -> None:
    features = matrices(5000)
    found = JointStatistics.of(features, torch.arange(5000) % n_parts, method, n_parts)
    with one_torch_thread():  # as each part of rows in memory is added
        expected = in_parts(features, method, n_parts).compute()
    for ours, theirs in zip(found.compute().tensors(), expected.tensors(), strict=True):
        assert torch.equal(ours, theirs)
    none = JointStatistics.of(matrices(30), torch.empty(0, dtype=torch.int64), method, n_parts)
    assert none.compute().counts.tolist() == [0] * n_parts


@pytest.mark.parametrize("method", ["qr", "gram"])
def test_any_number_of_parts_merges_and_goes_through_a_file(method: Method, tmp_path: Path) -> None:
    features, moments = matrices(mean=2.0), []
    whole = in_parts(features, method, 5)
    merged = JointStatistics(WIDTHS, method, n_parts=5)
    for number, rows in enumerate(torch.arange(400).split(130)):
        shard = JointStatistics(WIDTHS, method, n_parts=5)
        shard.update({name: values[rows] for name, values in features.items()}, rows % 5)
        shard.save(tmp_path / str(number))
        loaded = JointStatistics.load(tmp_path / str(number))
        assert torch.equal(loaded.compute().parts, shard.compute().parts)
        merged.merge(loaded)
    for of in (merged.compute(), whole.compute()):
        parts = of.parts_about(whole.compute().pivot)
        moments.append(parts if method == "gram" else parts.mT @ parts)
    torch.testing.assert_close(*moments, rtol=1e-10, atol=1e-10)
    assert merged.compute().counts.tolist() == [80] * 5


def test_statistics_of_other_parts_are_refused() -> None:
    features, five = matrices(), in_parts(matrices(), "gram", 5)
    with pytest.raises(InputError, match=r"parts merge, got gram of .* in 4 parts and gram of .* in 5 parts"):
        in_parts(features, "gram", 4).merge(five)
    with pytest.raises(InputError, match=r"'n_parts': 5} cannot be loaded by an accumulator of .*'n_parts': 3}"):
        JointStatistics(WIDTHS, "gram").load_state_dict(five.state_dict())
    with pytest.raises(InputError, match=r"part must be one of 0 to 4, got \[5, 6\]"):
        five.update({name: values[:2] for name, values in features.items()}, torch.tensor([5, 6]))
    with pytest.raises(InputError, match=r"part must be one of 0 to 4, got \[-1\]"):
        JointStatistics.of(features, torch.full((400,), -1), "gram", 5)
    with pytest.raises(InputError, match="n_parts must be at least 1, got 0"):
        JointStatistics(WIDTHS, n_parts=0)
