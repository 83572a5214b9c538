"""Requests that cannot be met: said at once, with what was given, before any model runs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

import latentcmp
from latentcmp.errors import InputError

BAD = {
    "order": ({"order": 9}, "order: input should be less than or equal to 8, got 9"),
    "measures": ({"measures": ["gfre", "r2"]}, "measures must be .*, got 'gfre', 'r2'"),
    "no measures": ({"measures": []}, "measures must be .*, got none"),
    "solver": ({"solver": "lasso"}, "solver: input should be 'cutoff' or 'ridge'"),
    "model": ({"models": ["chgnet"]}, "unknown model 'chgnet': did you mean chgnet"),
    "local points": ({"models": ["diep"], "n_local_points": 100_000}, "between 2 and the number of training rows"),
    "too few": (
        {"models": ["diep"], "structures": "first"},
        "at least 3 groups of rows, one to test and two to train on, got 1",
    ),
    "one layer twice": ({"models": ["diep@last", "diep@final_layer.gated.layers.5"]}, "are the same layer"),
    "layer": ({"models": ["diep"], "layer": "nope"}, "no layer 'nope'"),
    "preset": ({"preset": "paper"}, "preset: input should be 'chorna2025', got 'paper'"),
    "preset of few": ({"preset": "chorna2025", "structures": "first"}, "leaves 1 structures for training and 0 for"),
    "no model": ({"models": [3]}, "models must be names, .*, got int at position 0"),
    "file": ({"models": ["diep"], "structures": "nowhere.extxyz"}, "nowhere.extxyz does not exist"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_fail_before_any_model_runs(
    all_models: None, structures: list[Atoms], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("a model ran")

    monkeypatch.setattr("latentcmp.comparison.sources.run_layers", never)
    options, message = BAD[case]
    given = {"structures": structures, **options}
    if given["structures"] == "first":
        given["structures"] = structures[:1]
    with pytest.raises(InputError, match=message):
        latentcmp.compare(**given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": {}}, "features must map names"),
        ({"measures": ["r2"]}, "some of gfre, gfrd, lfre, .*, got 'r2'"),
        ({"groups": [0] * 50, "test_idx": [1]}, "not both"),
        ({"groups": [0, 1]}, "2 labels for 50 rows"),
        ({"n_local_points": 41}, "n_local_points is 41"),
        ({"n_local_points": 26, "preset": "chorna2025"}, "n_local_points is 26"),
        ({"features": {"a": np.zeros((50, 3)), "b": np.zeros((49, 3))}}, "same rows, got a: 50, b: 49"),
    ],
)
def test_bad_features_are_explained(options: dict[str, object], message: str) -> None:
    matrix = np.random.default_rng(0).normal(size=(50, 3))
    with pytest.raises(InputError, match=message):
        latentcmp.compare_features(**{"features": {"a": matrix, "b": matrix**2}, **options})  # type: ignore[arg-type]


def test_importing_the_package_brings_torch_and_numpy_at_most() -> None:
    code = "import sys, latentcmp; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert not {"ase", "e3nn", "typer", "rich", "pydantic", "matplotlib", "scipy", "chgnet"} & set(found.stdout.split())
    assert not found.stderr
