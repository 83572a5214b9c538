"""What a drift monitor costs, on a small scale."""

from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import pytest

drift = import_module("latentcmp.benchmarks.drift" if find_spec("latentcmp.benchmarks") else "benchmarks.drift")


def test_a_probe_is_set_against_the_steps_between_two(monkeypatch: pytest.MonkeyPatch, all_models: None) -> None:
    """With these seconds a probe takes 0.5 + 0.1 of the 100 x 2 seconds between two: 0.3 %."""
    calls = []

    def fixed(candidates: dict[str, Callable[[], object]], repeat: int, device: str) -> dict[str, float]:
        calls.extend([name for name, call in candidates.items() if call() is not False])
        return {"train": 2.0, "forward": 0.4, "probe": 0.5, "compute": 0.1}

    monkeypatch.setattr(drift, "measure", fixed)
    monkeypatch.setattr(drift, "PROBES", (128,))
    monkeypatch.setattr(drift, "BATCH", 1)
    (row,) = drift.run(Namespace(repeat=1))
    assert calls == ["train", "forward", "probe", "compute"]  # each of them ran, the probe because it was due
    assert row["name"] == "128 atoms"
    assert (row["% of the steps"], row["own ms"]) == pytest.approx((0.3, 200.0))
