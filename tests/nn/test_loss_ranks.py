"""The running map shared by two real processes (gloo) under DistributedDataParallel, against one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.nn import ReconstructionLoss

from .loss_cases import D, T, related
from .loss_rank import CASES, SHARES, train

WHOLE = slice(0, 40)


@pytest.fixture(scope="module")
def ranks(run_ranks: Callable[[Path, int], Path]) -> list[dict[str, Any]]:
    """What both ranks found with 25 and 15 rows of each batch."""
    folder = run_ranks(Path(__file__).with_name("loss_rank.py"), 2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", ["shared", "map held", "compiled"])
def test_moments_losses_and_gradients_are_those_of_one_process_with_the_whole_batch(ranks, case):
    expected = train(CASES.get(case, CASES["shared"]), WHOLE)
    for rank in ranks:
        for part in ("values", "gradients", "state"):
            torch.testing.assert_close(rank[case][part], expected[part], rtol=1e-9, atol=1e-12)


def test_all_processes_hold_the_same_bits(ranks):
    for name, value in ranks[0]["shared"]["state"].items():
        assert torch.equal(value, ranks[1]["shared"]["state"][name])
    torch.testing.assert_close(ranks[0]["group"], ranks[0]["shared"], rtol=0, atol=0)


def test_evaluation_exchanges_nothing(ranks):
    loss = ReconstructionLoss(alpha=1e-2, momentum=0.4, widths=(D, T)).eval()
    for rows, rank in zip(SHARES, ranks, strict=True):
        loss.load_state_dict(rank["shared"]["state"])
        probe = (matrix[rows] for matrix in related(seed=9))
        torch.testing.assert_close(rank["shared"]["evaluated"], loss(*probe))


def test_without_a_group_every_process_keeps_the_moments_of_its_own_rows(ranks):
    for rows, rank in zip(SHARES, ranks, strict=True):
        values = rank["alone"]["values"]
        torch.testing.assert_close(values[0], train(CASES["alone"], rows)["values"][0])
    assert not torch.equal(ranks[0]["alone"]["state"]["moments.mean"], ranks[1]["alone"]["state"]["moments.mean"])


def test_the_world_is_looked_up_when_the_loss_is_called(ranks):
    joint = torch.cat(related(), 1)
    for rank in ranks:
        torch.testing.assert_close(rank["early"]["moments.mean"], joint.mean(0))
        torch.testing.assert_close(rank["early"]["moments.covariance"], joint.T.cov(correction=0))


def test_without_torch_distributed_the_world_is_this_process():
    torch.testing.assert_close(train(CASES["shared"], WHOLE), train(CASES["alone"], WHOLE), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": "world"}, "give momentum too"),
        ({"group": "all", "momentum": 0.1, "widths": (D, T)}, "group must be None, 'world'"),
        ({"group": -100, "momentum": 0.1, "widths": (D, T)}, "group must be None, 'world'"),
    ],
)
def test_a_group_that_cannot_be_shared_with_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        ReconstructionLoss(**options)
