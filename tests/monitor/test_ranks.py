"""The monitor in three real processes (gloo) against the monitor in one."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torchmetrics")
from latentcmp import DriftMonitor
from latentcmp._runtime.settings import one_torch_thread

from .drift_rank import SCENES, network, rows

SCRIPT, WORLD = Path(__file__).with_name("drift_rank.py"), 3


@pytest.fixture(scope="module")
def folder(run_ranks: Callable[[Path, int], Path]) -> Path:
    """What all ranks wrote."""
    return run_ranks(SCRIPT, WORLD)


@pytest.mark.parametrize("scene", SCENES)
def test_all_processes_give_the_answer_of_one(folder: Path, scene: str) -> None:
    first, *others = of_all_ranks(folder, scene)
    assert all(other == first for other in others)
    alike(first, SCENES[scene](None))


@pytest.mark.parametrize("scene", ["local", "local structures", "few structures", "one batch"])
def test_local_errors_are_those_of_one_process_to_the_last_bit(folder: Path, scene: str) -> None:
    with one_torch_thread():  # as in the processes
        (expected,) = SCENES[scene](None)
    (found,) = of_all_ranks(folder, scene)[0]
    for name, layer in expected["layers"].items():
        for measure in ("lfre_to_reference", "lfre_from_reference"):
            assert layer[measure] > 0
            assert found["layers"][name][measure] == layer[measure]


def test_a_failure_on_one_rank_is_a_record_on_all_and_training_goes_on(folder: Path) -> None:
    ranks = of_all_ranks(folder, "training")
    for rank in ranks:
        records = rank["records"]
        assert rank["weights"] == ranks[0]["weights"]
        reasons = [record["layers"]["1"]["reason"] for record in records]
        assert reasons[:2] == [None, None]
        assert "size of tensor" in reasons[2]
        assert reasons[3] is None
        assert math.isnan(records[2]["layers"]["1"]["gfre_to_reference"])


def test_one_process_needs_no_group() -> None:
    monitor = DriftMonitor(network(), "1", probe=rows())
    assert monitor._layers["1"].shape == (301, 8)


def of_all_ranks(folder: Path, scene: str) -> list[Any]:
    return [json.loads((folder / f"{scene}-{rank}.json").read_text()) for rank in range(WORLD)]


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
