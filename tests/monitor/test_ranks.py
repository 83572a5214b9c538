"""The monitor in two real processes (gloo) against the monitor in one."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torchmetrics")
from drift_rank import SCENES, network, rows

from latentcmp import DriftMonitor
from latentcmp.errors import InputError
from latentcmp.monitor.ranks import Ranks

SCRIPT = Path(__file__).with_name("drift_rank.py")


@pytest.fixture(scope="module")
def folder(run_ranks: Callable[[Path, int], Path]) -> Path:
    """What both ranks wrote."""
    return run_ranks(SCRIPT, 2)


@pytest.mark.parametrize("scene", SCENES)
def test_two_processes_give_the_answer_of_one(folder: Path, scene: str) -> None:
    first, second = (json.loads((folder / f"{scene}-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    alike(first, SCENES[scene](None))


def test_a_failure_on_one_rank_is_a_record_on_all_and_training_goes_on(folder: Path) -> None:
    first, second = (json.loads((folder / f"training-{rank}.json").read_text()) for rank in range(2))
    assert first["weights"] == second["weights"]
    for records in (first["records"], second["records"]):
        reasons = [record["layers"]["1"]["reason"] for record in records]
        assert reasons[:2] == [None, None]
        assert "size of tensor" in reasons[2]
        assert reasons[3] is None
        assert math.isnan(records[2]["layers"]["1"]["gfre_to_reference"])


def test_what_several_processes_cannot_share_is_refused() -> None:
    ranks = Ranks()
    ranks.size = 2
    from latentcmp.monitor.probe import forwards_of_batches

    with pytest.raises(InputError, match="2 processes share the probe, which holds 1 batches"):
        forwards_of_batches(network(), {"input": rows()}, ranks)


def test_one_process_needs_no_group() -> None:
    monitor = DriftMonitor(network(), "1", probe=rows())
    assert monitor._layers["1"].shape == (301, 8)


def alike(found: object, expected: object) -> None:
    """The same numbers to rounding; an error of nothing is nothing."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys()
        for key in expected:
            alike(found[key], expected[key])
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            alike(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5)  # forwards in float32, in batches of other sizes
    else:
        assert found == expected
