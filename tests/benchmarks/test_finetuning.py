"""The fine-tuning study on few structures and one step, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for package in ("chgnet", "diep"):
    pytest.importorskip(package)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuning")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "latentcmp",
        "bench",
        "finetuning",
        "--quick",
        "--out",
        str(folder),
    ]
    subprocess.run(command, cwd=folder, check=True, env=os.environ, capture_output=True)
    return folder, json.loads((folder / "finetuning.json").read_text())


def test_everything_is_written_and_nothing_else(found):
    folder, _ = found
    assert sorted(path.name for path in Path(folder).iterdir()) == ["finetuning.json", "finetuning.png"]


@pytest.mark.parametrize("layer", ["last", "backbone"])
@pytest.mark.parametrize("probe", ["family", "other chemistry"])
def test_runs_begin_at_the_pretrained_features_and_a_random_start_far_from_them(found, probe, layer):
    same = itself(found, probe, layer)
    assert same < (0.1 if (probe, layer) == ("other chemistry", "backbone") else 1e-4)  # elements of one group alone
    for name, records in found[1]["progress"].items():
        errors = records[0]["gfre"][probe][layer].values()
        if name.startswith("from scratch"):
            assert min(errors) > max(0.2, 4 * same)
        else:
            assert list(errors) == pytest.approx([same] * 2, rel=1e-5, abs=1e-8)


def itself(found, probe, layer):
    """The error of the pretrained features from themselves, not zero with ridge."""
    matrices = found[1]["matrices"]
    assert matrices["models"][0] == "pretrained"
    return matrices[probe][layer]["gfre"][0][0]


def test_one_step_moves_all_that_is_free_and_nothing_that_is_held(found):
    ends = {name: records[-1]["gfre"]["family"] for name, records in found[1]["progress"].items()}
    last, backbone = (itself(found, "family", layer) for layer in ("last", "backbone"))
    for name in ("all weights", "anchored"):
        assert min(ends[name]["last"].values()) > 10 * last
        assert min(ends[name]["backbone"].values()) > 10 * backbone
    assert list(ends["readout only"]["backbone"].values()) == pytest.approx([backbone] * 2, rel=1e-5)
    assert min(ends["readout only"]["last"].values()) > 10 * last


def test_the_energy_zero_of_the_labels_is_that_of_the_pretrained_model(found):
    assert found[1]["progress"]["all weights"][0]["labels"]["energy"] < 100  # meV/atom; eV before
    assert all(abs(shift) < 50 for shift in found[1]["element_shift_eV"].values())


def test_the_matrix_holds_all_models(found):
    matrices = found[1]["matrices"]
    others = ["chgnet-r2scan", "chgnet-0.2.0"]
    assert matrices["models"] == ["pretrained", *found[1]["progress"], *others, "labeller"]
    for probe in ("family", "other chemistry"):
        for layer in ("last", "backbone"):
            gfre, median = (np.array(matrices[probe][layer][key]) for key in ("gfre", "median"))
            assert gfre.shape == median.shape == (9, 9)
            least = 0.1 if (probe, layer) == ("other chemistry", "backbone") else 0.05  # elements of one group alone
            assert np.diag(gfre).max() < least < gfre[0, -1]


def test_errors_on_the_way_end_where_the_matrix_begins(found):
    matrices = found[1]["matrices"]
    for probe in ("family", "other chemistry"):
        for layer in ("last", "backbone"):
            gfre = matrices[probe][layer]["gfre"]
            for name, records in found[1]["progress"].items():
                place, end = matrices["models"].index(name), records[-1]["gfre"][probe][layer]
                assert [end["to"], end["from"]] == pytest.approx([gfre[place][0], gfre[0][place]], rel=1e-5, abs=1e-8)
