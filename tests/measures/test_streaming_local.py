"""Local errors against a stream beside those of all rows at once, and beside scikit-matter."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from latentcmp import JointStatistics, RunningLocalErrors, metrics
from latentcmp.errors import InputError

skmatter = pytest.importorskip("skmatter.metrics")

N_TRAIN, M = 240, 30


@pytest.fixture(scope="module")
def matrices() -> dict[str, np.ndarray]:
    """Two float32 matrices of N_TRAIN training rows and M test rows."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(N_TRAIN + M, 6))
    b = np.tanh(a @ rng.normal(size=(6, 9))) + 0.01 * rng.normal(size=(N_TRAIN + M, 9))
    return {"a": a.astype(np.float32), "b": b.astype(np.float32)}


def statistics(matrices: dict[str, np.ndarray]) -> JointStatistics:
    found = JointStatistics({name: rows.shape[1] for name, rows in matrices.items()})
    part = torch.arange(N_TRAIN + M) % 2
    part[N_TRAIN:] = 2
    found.update({name: torch.from_numpy(rows) for name, rows in matrices.items()}, part)
    return found


def streamed(matrices: dict[str, np.ndarray], k: int | None, pieces: list[slice]) -> RunningLocalErrors:
    """Training rows in two objects, which take turns and are merged."""
    tensors = {name: torch.from_numpy(rows) for name, rows in matrices.items()}
    test = {name: rows[N_TRAIN:] for name, rows in tensors.items()}
    both = [RunningLocalErrors(statistics(matrices), test, k) for _ in range(2)]
    for turn, piece in enumerate(pieces):
        both[turn % 2].update({name: rows[piece] for name, rows in tensors.items()}, piece.start)
    both[0].merge(both[1])
    return both[0]


def expected(matrices: dict[str, np.ndarray], source: str, target: str, k: int) -> np.ndarray:
    train, test = np.arange(N_TRAIN), np.arange(N_TRAIN, N_TRAIN + M)
    x, y = (matrices[name].astype(np.float64) for name in (source, target))
    return skmatter.pointwise_local_reconstruction_error(x, y, k, train_idx=train, test_idx=test)


@pytest.mark.parametrize("k", [5, 12])
def test_pieces_in_any_order_give_the_errors_of_all_rows(matrices: dict[str, np.ndarray], k: int) -> None:
    found = streamed(matrices, k, [slice(150, N_TRAIN), slice(0, 40), slice(40, 150)])
    for source in matrices:
        for target, errors in found.pointwise(source).items():
            np.testing.assert_allclose(errors, expected(matrices, source, target, k), rtol=1e-6, atol=1e-12)


def test_pieces_in_any_order_give_the_same_bits(matrices: dict[str, np.ndarray]) -> None:
    copies = {name: np.concatenate([rows[:20].repeat(12, 0), rows[N_TRAIN:]]) for name, rows in matrices.items()}
    for values in (matrices, copies):
        cuts = [[0, N_TRAIN], [0, 1, 150, N_TRAIN], [*range(0, N_TRAIN, 7), N_TRAIN]]
        pieces = [[slice(*piece) for piece in pairwise(edges)] for edges in cuts]
        found = [streamed(values, 9, some).compute() for some in (*pieces, pieces[2][::-1])]
        assert all(torch.equal(errors, found[0]) for errors in found)


def test_k_is_the_smaller_width_of_the_pair(matrices: dict[str, np.ndarray]) -> None:
    found = streamed(matrices, None, [slice(0, N_TRAIN)]).compute()
    for i, (source, wide) in enumerate((("a", 6), ("b", 9))):
        for j, (target, other) in enumerate((("a", 6), ("b", 9))):
            errors = expected(matrices, source, target, min(wide, other))
            assert found[i, j].item() == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)


def test_it_is_what_the_metric_gives_on_all_rows(matrices: dict[str, np.ndarray]) -> None:
    tensors = [torch.from_numpy(rows).double() for rows in matrices.values()]
    found = streamed(matrices, 8, [slice(0, 100), slice(100, N_TRAIN)]).pointwise("a")["b"]
    train, test = np.arange(N_TRAIN), np.arange(N_TRAIN, N_TRAIN + M)
    whole = metrics.pointwise_local_reconstruction_error(*tensors, 8, train_idx=train, test_idx=test)
    torch.testing.assert_close(found, torch.as_tensor(whole), rtol=1e-10, atol=0)


def test_a_state_continues_the_stream_and_reset_forgets_it(matrices: dict[str, np.ndarray]) -> None:
    tensors = {name: torch.from_numpy(rows) for name, rows in matrices.items()}
    first = streamed(matrices, 8, [slice(0, 100)])
    resumed = RunningLocalErrors(statistics(matrices), {name: rows[N_TRAIN:] for name, rows in tensors.items()}, 8)
    resumed.load_state_dict(first.state_dict())
    resumed.update({name: rows[100:N_TRAIN] for name, rows in tensors.items()}, 100)
    assert torch.equal(resumed.compute(), streamed(matrices, 8, [slice(0, N_TRAIN)]).compute())
    resumed.reset()
    with pytest.raises(InputError, match="fewer than 8"):
        resumed.compute()
    with pytest.raises(InputError, match="n_local_points"):
        resumed.load_state_dict(streamed(matrices, 5, [slice(0, 100)]).state_dict())


def test_bad_rows_are_refused(matrices: dict[str, np.ndarray]) -> None:
    known, rows = statistics(matrices), torch.zeros(4, 6)
    with pytest.raises(InputError, match="the same rows"):
        RunningLocalErrors(known, {"a": rows})
    with pytest.raises(InputError, match="at least 2"):
        RunningLocalErrors(known, {"a": rows, "b": torch.zeros(4, 9)}, 1)
    found = RunningLocalErrors(known, {"a": rows, "b": torch.zeros(4, 9)}, 5)
    with pytest.raises(InputError, match="expected features of a, b"):
        found.update({"a": rows}, 0)
    found.update({"a": rows, "b": torch.zeros(4, 9)}, 0)
    with pytest.raises(InputError, match="fewer than 5"):
        found.compute()
