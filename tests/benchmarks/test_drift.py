"""What a drift monitor costs, on a small scale."""

from argparse import Namespace
from importlib import import_module
from importlib.util import find_spec

import pytest

drift = import_module("latentcmp.benchmarks.drift" if find_spec("latentcmp.benchmarks") else "benchmarks.drift")


def test_a_probe_is_set_against_the_steps_between_two(monkeypatch: pytest.MonkeyPatch, all_models: None) -> None:
    monkeypatch.setattr(drift, "PROBES", (128,))
    monkeypatch.setattr(drift, "BATCH", 1)
    (row,) = drift.run(Namespace(repeat=1))
    assert row["name"] == "128 atoms"
    assert row["train ms"] > 0
    assert row["% of the steps"] == pytest.approx((row["probe ms"] + row["compute ms"]) / row["train ms"])
