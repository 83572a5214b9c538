"""`latentcmp drift`: real CHGNet checkpoints at growing distance from the pretrained one."""

import csv
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir
from typing import TypeAlias

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

import latentcmp
from latentcmp.comparison.checkpoint_names import expanded, steps_of
from latentcmp.comparison.checkpoints import drift
from latentcmp.comparison.config import CompareConfig
from latentcmp.errors import InputError
from latentcmp.models import load

SIZES = {"epoch2.pth.tar": 0.002, "epoch10.pth.tar": 0.02, "epoch9.pth.tar": 0.01}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, all_models: None) -> Path:
    """A folder of checkpoints whose weights moved away from CHGNet's, and one file that is none."""
    folder = tmp_path_factory.mktemp("runs")
    for name, size in SIZES.items():
        model = load("chgnet-0.3.0").module
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in model.parameters():
                value += size * torch.randn(value.shape, generator=generator)
        torch.save({"model": model.as_dict()}, folder / name)
    (folder / "epoch11.pth.tar").write_bytes(b"cut off")
    (folder / ".hidden").write_text("")
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, structures: list[Atoms]) -> Path:
    path = tmp_path_factory.mktemp("structures") / "few.extxyz"
    write(path, structures[:40])
    return path


Ran: TypeAlias = tuple[Path, subprocess.CompletedProcess[str]]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "latentcmp", "drift", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=gettempdir())


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "drift.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def ran(checkpoints: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("out")
    return folder, run(checkpoints, "--family", "chgnet", "-r", "chgnet-0.3.0", "-s", few, "-o", folder)


def test_a_folder_becomes_a_table_and_a_figure(ran: Ran) -> None:
    folder, _ = ran
    lines = table(folder)
    assert [(line["checkpoint"], line["step"]) for line in lines] == [
        ("epoch2.pth.tar", "2"),
        ("epoch9.pth.tar", "9"),
        ("epoch10.pth.tar", "10"),
    ]
    for name in ("gfre_to_reference", "gfre_from_reference", "lfre_to_reference", "lfre_from_reference"):
        found = [float(line[name]) for line in lines]
        assert 0 < found[0] < found[1] < found[2]
        assert all(float(line[f"{name}_low"]) <= float(line[name]) <= float(line[f"{name}_high"]) for line in lines)
    assert (folder / "drift.png").stat().st_size > 10_000


def test_a_checkpoint_that_does_not_load_is_named_and_the_exit_status_says_so(
    ran: Ran,
) -> None:
    _, result = ran
    assert result.returncode == 1
    assert "epoch11.pth.tar cannot be loaded" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_errors_are_those_of_a_comparison_with_small_strengths(ran: Ran, checkpoints: Path, few: Path) -> None:
    spec = f"chgnet:{checkpoints / 'epoch9.pth.tar'}"
    features = {name: latentcmp.extract(name, few, device="cpu") for name in ("chgnet-0.3.0", spec)}
    records = features[spec].records
    comparison = latentcmp.compare_features(
        {name: of_model.values for name, of_model in features.items()},
        groups=[record.group for record in records for _ in range(len(record))],
        alphas=np.geomspace(1e-5, 0.9, 10),
        local_alphas=np.geomspace(1e-2, 0.9, 10),
    )
    line = table(ran[0])[1]
    for measure in ("gfre", "lfre"):
        matrix = getattr(comparison, measure)
        assert float(line[f"{measure}_from_reference"]) == pytest.approx(matrix["chgnet-0.3.0", spec], rel=1e-6)
        assert float(line[f"{measure}_to_reference"]) == pytest.approx(matrix[spec, "chgnet-0.3.0"], rel=1e-6)


def test_the_errors_are_those_of_a_drift_monitor(ran: Ran, checkpoints: Path, few: Path) -> None:
    adapters = (load(f"chgnet:{checkpoints / 'epoch9.pth.tar'}"), load("chgnet-0.3.0"))
    monitor = latentcmp.DriftMonitor(adapters[0], "last", adapters[1], probe=few, local=True)
    monitor.step(0)
    record, line = monitor.compute()[0]["layers"]["last"], table(ran[0])[1]
    for name in ("gfre_to_reference", "gfre_from_reference", "lfre_to_reference", "lfre_from_reference"):
        assert float(line[name]) == pytest.approx(record[name], rel=1e-4)  # float32 forwards of other batches
    for name in ("linear_cka", "effective_rank"):
        assert float(line[name]) == pytest.approx(record[name], rel=1e-6)


def test_a_second_run_goes_on_where_the_first_stopped(
    ran: Ran,
    checkpoints: Path,
    few: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = (ran[0] / "drift.csv").read_text().splitlines()
    path = tmp_path / "drift.csv"
    path.write_text("\n".join(lines[:3]) + "\n")
    measured = []
    whole = latentcmp.comparison.checkpoints.measured
    monkeypatch.setattr("latentcmp.comparison.checkpoints.measured", lambda *given: measured.append(1) or whole(*given))
    names = [f"chgnet:{checkpoints / name}" for name in SIZES]
    found = drift(names, "chgnet-0.3.0", few, path)
    assert len(measured) == 1
    assert not found.failed
    assert [line["step"] for line in found.lines] == [2, 9, 10]
    assert [line["sha256"] for line in found.lines] == [line["sha256"] for line in table(ran[0])]
    drift(names[:1], "chgnet-0.3.0", few, path, config=CompareConfig.of(seed=1))  # another split: nothing is known
    assert len(measured) == 2


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["epoch=3-step=400.ckpt", "epoch=9-step=1000.ckpt"], [400, 1000]),
        (["epoch9_e29_f68.pth.tar", "bestE_epoch9_e29.pth.tar"], [9, 9]),
        (["checkpoint_10.pth", "checkpoint_600.pth"], [10, 600]),
        (["run3_v2.pt", "run4_v2.pt"], [0, 1]),
        (["chgnet-0.3.0", "last.pth"], [0, 1]),
    ],
)
def test_steps_come_from_names_or_order(names: list[str], steps: list[int]) -> None:
    assert steps_of(names) == steps


def test_folders_come_in_natural_order_and_names_as_they_are(checkpoints: Path) -> None:
    order = ["epoch2", "epoch9", "epoch10", "epoch11"]
    assert expanded([f"chgnet:{checkpoints}"]) == [f"chgnet:{checkpoints}/{name}.pth.tar" for name in order]
    assert expanded(["chgnet-0.2.0", "chgnet-0.2.0"], "chgnet") == ["chgnet-0.2.0"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no checkpoints"),
        (["mace"], "unknown model"),
        (["chgnet:nowhere.pth"], "nowhere.pth does not exist"),
        (["chgnet-0.2.0"], "is no table of `latentcmp drift`"),
    ],
)
def test_what_is_wrong_is_said_from_the_start(
    all_models: None, few: Path, tmp_path: Path, names: list, message: str
) -> None:
    (tmp_path / "drift.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(InputError, match=message):
        drift(names, "chgnet-0.3.0", few, tmp_path / "drift.csv")


def test_a_path_of_unknown_family_is_one_line(checkpoints: Path, tmp_path: Path) -> None:
    result = run(checkpoints, "-r", "chgnet-0.3.0", "-o", tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert "give --family" in result.stderr
