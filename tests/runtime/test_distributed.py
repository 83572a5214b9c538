"""Statistics of several real processes (gloo) against those of one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.statistics.joint import JointStatistics

from .reduce_rank import GROUPS, TENSORS, WIDTHS, of_share

SCRIPT = Path(__file__).with_name("reduce_rank.py")


@pytest.fixture(scope="module")
def folder(run_ranks: Callable[[Path, int], Path]) -> Path:
    """What three ranks wrote."""
    return run_ranks(SCRIPT, 3)


@pytest.mark.parametrize("method", ["qr", "gram"])
@pytest.mark.parametrize("group", GROUPS)
def test_all_ranks_hold_the_rows_of_all(folder: Path, group: str, method: str) -> None:
    found = [JointStatistics.load(folder / f"{group}-{method}-{rank}") for rank in GROUPS[group]]
    whole = of_share(0, 1, method)
    assert all(torch.equal(other.compute().parts, found[0].compute().parts) for other in found)
    assert found[0].compute().counts.tolist() == whole.compute().counts.tolist()
    torch.testing.assert_close(found[0].errors(), whole.errors(), rtol=1e-9, atol=1e-7)


def test_the_order_of_merging_is_fixed(folder: Path) -> None:
    first, second, third = (of_share(share, 3, "qr") for share in range(3))
    first.merge(second)
    first.merge(third)
    assert torch.equal(JointStatistics.load(folder / "all-qr-2").compute().parts, first.compute().parts)


def test_ranks_without_rows_add_nothing(folder: Path) -> None:
    found = [JointStatistics.load(folder / f"empty-qr-{rank}") for rank in range(3)]
    assert all(torch.equal(other.compute().parts, found[0].compute().parts) for other in found)
    torch.testing.assert_close(found[0].errors(), of_share(0, 1, "qr").errors(), rtol=1e-9, atol=1e-12)
    nothing = JointStatistics.load(folder / "nothing-qr-1")
    assert "pivot" not in nothing.state_dict()
    assert not nothing.compute().parts.any()


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("widths", f"rank 0 of the group has qr of {WIDTHS} in 3 parts and rank 2 has qr of {WIDTHS | {'b': 10}}"),
        ("parts", f"rank 0 of the group has qr of {WIDTHS} in 3 parts and rank 1 has qr of {WIDTHS} in 5 parts"),
        ("method", f"rank 0 of the group has qr of {WIDTHS} in 3 parts and rank 1 has gram of {WIDTHS}"),
    ],
)
def test_ranks_that_differ_are_told_so_on_every_rank(folder: Path, odd: str, message: str) -> None:
    said = {(folder / f"{odd}-qr-{rank}").read_text() for rank in range(3)}
    assert len(said) == 1
    assert said.pop().startswith(f"True all ranks must hold the same statistics, but {message}")


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="init_process_group"):
        JointStatistics(WIDTHS).all_reduce()
    assert (folder / "two-gram-0").read_text().startswith("this process is no member of the group")


def test_messages_arrive_as_they_were_sent(folder: Path) -> None:
    (tensors, metadata), *others = torch.load(folder / "messages", weights_only=True)
    assert metadata == {"names": {"1": "é"}}
    assert list(tensors) == list(TENSORS)
    for name, tensor in tensors.items():
        assert (tensor.dtype, tensor.shape) == (TENSORS[name].dtype, TENSORS[name].shape)
        assert torch.equal(tensor, TENSORS[name])
    assert others == [({}, {}), None]
