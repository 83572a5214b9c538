"""Neighbours in a stream against those among all rows at once."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.measures import streaming_nearest
from latentcmp.measures.nearest import exact_squared_distances, nearest
from latentcmp.measures.streaming_nearest import RunningNeighbours

N_ROWS, M, WIDTH = 300, 40, 6


def rows(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and queries; on a small integer grid almost all distances are ties, and so they are between crystals."""
    rng = np.random.default_rng(0)
    if kind == "grid":
        return torch.from_numpy(rng.integers(3, size=(N_ROWS, WIDTH))).double(), torch.ones(M, WIDTH).double()
    x = rng.normal(size=(N_ROWS, WIDTH))
    if kind == "crystals":  # a few rows over and over, far from the origin
        return torch.from_numpy(x[rng.integers(4, size=N_ROWS)] + 1e5), torch.from_numpy(x[:M] + 1e5)
    x[200:250] = x[:50]  # repeated rows: ties between row numbers far apart
    return torch.from_numpy(x), torch.from_numpy(rng.normal(size=(M, WIDTH)))


def payload_of(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """A matrix in another dtype, a tensor of three dimensions, and a number a row."""
    return {"y": x[:, :2].float(), "z": torch.stack([x, -x], dim=1), "row": torch.arange(len(x))}


def streamed(x: torch.Tensor, queries: torch.Tensor, k: int, seed: int, n_streams: int = 1) -> RunningNeighbours:
    """Rows in pieces of random sizes, in random order, dealt to several streams that merge."""
    rng, payload = np.random.default_rng(seed), payload_of(x)
    streams = [RunningNeighbours(queries, k) for _ in range(n_streams)]
    pieces = list(pairwise([0, *np.sort(rng.integers(len(x), size=15)).tolist(), len(x)]))
    for piece in rng.permutation(len(pieces)):
        start, stop = pieces[piece]
        some = {name: values[start:stop] for name, values in payload.items()}
        streams[rng.integers(n_streams)].update(x[start:stop], some, start)
    for other in streams[1:]:
        streams[0].merge(other)
    return streams[0]


@pytest.mark.parametrize("block", [16, 4096])
@pytest.mark.parametrize("n_streams", [1, 3])
@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("kind", ["grid", "gaussian", "crystals"])
def test_any_cut_order_and_merging_gives_the_nearest_of_all(
    kind: str, k: int, n_streams: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming_nearest, "BLOCK", block)
    monkeypatch.setattr(streaming_nearest, "TEMPORARY_BYTES", 1 << 19)  # a few queries at a time
    x, queries = rows(kind)
    expected = nearest(x, queries, k)
    for seed in range(2):
        found = streamed(x, queries, k, seed, n_streams).compute()
        assert torch.equal(found.rows, expected)
        for name, values in payload_of(x).items():
            assert torch.equal(found.payload[name], values[expected])


def test_distances_agree_with_scipy() -> None:
    spatial = pytest.importorskip("scipy.spatial")
    x, queries = rows("gaussian")
    distances, positions = spatial.KDTree(x[:200].numpy()).query(queries.numpy(), k=9)
    found = streamed(x[:200].float(), queries, 9, seed=0).compute()
    np.testing.assert_array_equal(found.rows, positions)
    np.testing.assert_allclose(found.squared_distances.sqrt(), distances, rtol=1e-5)
    assert found.squared_distances.dtype == torch.float64


@pytest.mark.parametrize("kind", ["grid", "gaussian", "crystals"])
def test_the_same_bits_however_the_stream_is_cut_shared_out_and_blocked(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, queries = rows(kind)
    direct = exact_squared_distances(queries[:, None], x)
    expected = direct.gather(1, direct.argsort(dim=1, stable=True)[:, :25])
    for seed, (block, n_streams) in enumerate([(4096, 1), (4096, 4), (16, 1), (16, 2), (17, 3), (1, 2), (300, 1)]):
        monkeypatch.setattr(streaming_nearest, "BLOCK", block)
        found = streamed(x, queries, 25, seed, n_streams).compute()
        assert torch.equal(found.squared_distances, expected)
        assert torch.equal(found.squared_distances, direct.gather(1, found.rows))


def test_ties_go_to_the_first_row_by_exact_arithmetic() -> None:
    x, queries = rows("grid")
    squares = ((queries[:, None] - x) ** 2).sum(-1).to(torch.int64).numpy()
    expected = np.argsort(squares * N_ROWS + np.arange(N_ROWS), axis=1)  # small integers: no rounding
    for k in (1, 50, N_ROWS):
        found = streamed(x, queries, k, seed=3, n_streams=2).compute()
        np.testing.assert_array_equal(found.rows, expected[:, :k])
        np.testing.assert_array_equal(found.squared_distances, np.take_along_axis(squares, expected[:, :k], 1))


def test_rows_that_are_not_finite_are_nobodys_neighbour_and_reading_on_is_allowed() -> None:
    x, queries = rows("gaussian")
    stream = RunningNeighbours(queries, 4)
    for number, value in enumerate((torch.nan, torch.inf, -torch.inf)):
        odd = queries[:3].clone()
        odd[:, number] = value
        stream.update(odd, {}, N_ROWS + 3 * number)
    stream.update(x[:200], {}, 0)
    assert torch.equal(stream.compute().rows, nearest(x[:200], queries, 4))
    stream.update(x[200:], {}, 200)
    assert torch.equal(stream.compute().rows, nearest(x, queries, 4))
    stream.reset()
    with pytest.raises(InputError, match="fewer than 4 finite rows"):
        stream.compute()


def test_a_state_holds_all_rows_and_continues_the_stream() -> None:
    x, queries = rows("gaussian")
    payload = payload_of(x)
    first, resumed = RunningNeighbours(queries, 6), RunningNeighbours(queries, 6)
    first.update(x[:130], {name: values[:130] for name, values in payload.items()}, 0)
    resumed.update(x[:9], {name: values[:9] for name, values in payload.items()}, 500)  # replaced by the state
    resumed.load_state_dict(first.state_dict())
    for stream in (first, resumed):
        stream.update(x[130:], {name: values[130:] for name, values in payload.items()}, 130)
        found, expected = stream.compute(), nearest(x, queries, 6)
        assert torch.equal(found.rows, expected)
        for name, values in payload.items():
            assert torch.equal(found.payload[name], values[expected])


def test_a_state_of_no_rows_is_empty() -> None:
    x, queries = rows("gaussian")
    stream = RunningNeighbours(queries, 3)
    stream.update(x, {}, 0)
    stream.load_state_dict(RunningNeighbours(queries, 3).state_dict())
    with pytest.raises(InputError, match="fewer than 3 finite rows"):
        stream.compute()


def test_a_state_of_other_queries_is_refused() -> None:
    _, queries = rows("gaussian")
    for other in (RunningNeighbours(queries + 1, 3), RunningNeighbours(queries, 4), RunningNeighbours(queries[1:], 3)):
        with pytest.raises(InputError, match="cannot be loaded"):
            RunningNeighbours(queries, 3).load_state_dict(other.state_dict())


def test_bad_input_is_named() -> None:
    x, queries = rows("gaussian")
    stream = streamed(x, queries, 3, seed=0)
    with pytest.raises(InputError, match="queries must be finite"):
        RunningNeighbours(torch.full((2, 2), torch.nan), 3)
    with pytest.raises(InputError, match="k must be an integer"):
        RunningNeighbours(queries, 0)
    with pytest.raises(InputError, match=r"rows must be \[n, 6\] on cpu .* got \(300, 5\)"):
        stream.update(x[:, 1:], payload_of(x), 0)
    with pytest.raises(InputError, match=r"y must be \[300, ...\] on cpu, got \(299, 2\)"):
        stream.update(x, {**payload_of(x), "y": x[1:, :2].float()}, 0)
    with pytest.raises(InputError, match=r"the payload was .* before and is"):
        stream.update(x, {"y": x}, 0)
    with pytest.raises(InputError, match="same queries and k"):
        stream.merge(RunningNeighbours(queries + 1, 3))
    with pytest.raises(InputError, match="came twice"):
        stream.merge(streamed(x, queries, 3, seed=1))
        stream.compute()
