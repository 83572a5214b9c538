"""Moments from pieces against scipy on all the rows."""

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.statistics.moments import Moments

from ..ops.segment_cumulants_cases import make_case, scipy_cumulants

COUNTS = [40, 0, 3, 1, 700]


def pieces(x, ptr, cuts):
    """Each system cut at fractions of its rows: (rows, ptr) of every piece, all systems in each."""
    bounds = [ptr[:-1] + (ptr.diff() * cut).floor().long() for cut in [*cuts, 1.0]]
    for start, stop in zip([ptr[:-1], *bounds[:-1]], bounds, strict=True):
        rows = [torch.arange(int(a), int(b)) for a, b in zip(start, stop, strict=True)]
        counts = torch.tensor([0, *(len(r) for r in rows)])
        yield x[torch.cat(rows)], counts.cumsum(0)


@pytest.mark.parametrize("order", range(1, 9))
@pytest.mark.parametrize("cuts", [[], [0.5], [0.01, 0.3, 0.31]])
def test_pieces_give_the_cumulants_of_all_rows(order, cuts):
    x, ptr = make_case(COUNTS, columns=5, mean=2.0)
    moments = Moments(len(COUNTS), 5, order)
    for rows, offsets in pieces(x, ptr, cuts):
        moments.update(rows, offsets)
    assert moments.counts.tolist() == COUNTS
    torch.testing.assert_close(moments.compute(), scipy_cumulants(x, ptr, order), rtol=1e-9, atol=1e-9)


def test_pieces_of_different_mean_in_float32():
    x, ptr = make_case([500, 300], columns=3, dtype=torch.float32)
    x[:250] += 1e4
    moments = Moments(2, 3)
    for rows, offsets in pieces(x, ptr, [0.5]):
        moments.update(rows, offsets)
    want = scipy_cumulants(x, ptr, 4)
    scale = want[:, 1:2].sqrt() ** torch.arange(1, 5)[:, None]
    assert ((moments.compute() - want).abs() / scale).max() < 1e-11


def test_states_merge_and_reset():
    x, ptr = make_case(COUNTS, columns=4)
    states = [Moments(len(COUNTS), 4, 6).update(*piece) for piece in pieces(x, ptr, [0.2, 0.7])]
    whole = states[0].merge(states[1]).merge(states[2])
    torch.testing.assert_close(whole.compute(), scipy_cumulants(x, ptr, 6), rtol=1e-9, atol=1e-9)
    roots = whole.compute(root=True)[:, 1]
    torch.testing.assert_close(roots, scipy_cumulants(x, ptr, 2)[:, 1].sqrt(), rtol=1e-9, atol=1e-9)
    whole.reset()
    assert torch.count_nonzero(whole.compute()) == 0


def test_a_piece_may_name_its_systems():
    x, _ = make_case([6, 9], columns=3)
    moments = Moments(5, 3)
    moments.update(x[:6], torch.tensor([0, 2, 6]), torch.tensor([4, 1]))
    moments.update(x[6:], torch.tensor([0, 9]), torch.tensor([1]))
    got = moments.compute()
    want = scipy_cumulants(torch.cat([x[:2], x[2:]]), torch.tensor([0, 2, 15]), 4)
    torch.testing.assert_close(got[[4, 1]], want, rtol=1e-11, atol=1e-11)
    assert torch.count_nonzero(got[[0, 2, 3]]) == 0


@pytest.mark.parametrize(
    "act",
    [
        lambda: Moments(2, 3, 9),
        lambda: Moments(-1, 3),
        lambda: Moments(2, 3).update(torch.zeros(4, 2), torch.tensor([0, 1, 4])),
        lambda: Moments(2, 3).update(torch.zeros(4, 3), torch.tensor([0, 4])),
        lambda: Moments(2, 3).merge(Moments(2, 4)),
    ],
)
def test_what_does_not_fit_is_an_input_error(act):
    with pytest.raises(InputError):
        act()
