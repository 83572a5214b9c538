"""The command line: help, tables, exit codes, messages."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

import latentcmp
from latentcmp import cli


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Away from the checkout, whose folder would go before the installed package."""
    command = [sys.executable, "-m", "latentcmp", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=gettempdir(), env=os.environ | environment)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("compare", ["--layer", "GFRE", "chorna2025", "latentcmp extract", "Exit status: 0 for success, 2", "130"]),
        ("extract", ["--structures", "--overwrite", "interrupted"]),
        ("models", ["--self-test", "Exit status"]),
        ("drift", ["--reference", "Exit status: 0 for success, 1 where"]),
    ],
)
def test_help_names_every_option(command: str, words: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    for word in words:
        assert word in result.output


def test_the_version_is_that_of_the_package() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"latentcmp {latentcmp.__version__}\n")


def test_models_lists_checkpoints_licences_elements_and_hook_points(all_models: None) -> None:
    result = run("models", "sevennet-0", "chgnet-0.2.0")
    assert result.returncode == 0
    for words in (
        "installed (sevenn 0.13.0)",
        "checkpoint_sevennet_0.pth",
        "MIT",
        "H-Bi, Ac-Pu (89)",
        "reduce_input_to_hidden  [n_atoms, 64], 64x0e",
        "mlp.layers.3  [n_atoms, 64]",
    ):
        assert words in result.stdout


def test_the_self_test_reports_each_check(all_models: None) -> None:
    result = run("models", "diep", "--self-test")
    assert result.returncode == 0
    assert result.stdout.count("│ ok ") == 6
    assert "FAILED" not in result.stdout


def test_a_comparison_of_a_file_of_ones_own(all_models: None, structures: list[Atoms], tmp_path: Path) -> None:
    fit = [atoms for atoms in structures if len(atoms) > 4]
    write(tmp_path / "own.extxyz", [*fit, bulk("Po", "sc", a=3.35), bulk("Ag")])
    result = run("compare", "chgnet-r2scan", "diep", "-s", str(tmp_path / "own.extxyz"), "-o", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "GFRE between atoms" in result.stdout
    assert "LFRE between structures" in result.stdout
    assert "1 structure skipped for all models" in result.stdout
    assert "Po, unknown to diep" in result.stdout
    assert "1 structure of one atom" in result.stdout
    assert (tmp_path / "out" / "results.json").stat().st_size > 1000
    assert "Warning" not in result.stderr


def test_features_go_to_directories_and_are_compared_there(
    all_models: None, structures: list[Atoms], tmp_path: Path
) -> None:
    write(tmp_path / "own.extxyz", [*structures[:20], bulk("Po", "sc", a=3.35)])
    for model, name in (("chgnet-r2scan", "a"), ("diep@backbone", "b")):
        result = run("extract", model, "-s", str(tmp_path / "own.extxyz"), "-o", str(tmp_path / "features" / name))
        assert result.returncode == 0, result.stderr
        last = result.stdout.splitlines()[-1]
        assert last.startswith(f"Wrote {sum(map(len, structures[:20])) + (name == 'a')} rows of ")
        assert last.endswith(f" structures) of {model} to {tmp_path / 'features' / name}")
    again = run("extract", "diep", "-s", str(tmp_path / "own.extxyz"), "-o", str(tmp_path / "features" / "a"))
    assert again.returncode == 2
    assert "contains other features" in again.stderr
    directories = [str(tmp_path / "features" / name) for name in "ab"]
    given = [directories[0], f"features:{directories[1]}", "--measures", "gfre,gfrd", "--measures", "lfre"]
    result = run("compare", *given, "-o", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "GFRD between structures" in result.stdout
    assert "those of the features" in result.stdout
    assert "Po, unknown to diep" in result.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["models"] == ["a", "b"]
    assert results["manifest"]["measures"] == ["gfre", "gfrd", "lfre"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "diep", "-o", "/dev/null"], "is a file"),
        (["extract", "mace", "-o", "features/mace"], "unknown model 'mace'"),
        (["extract", "diep", "-o", "x", "--reduce", "sum"], "reduce: input should be 'invariant'"),
        (["compare", "features/nowhere"], "is no directory of features"),
        (["compare", "features:nowhere"], "nowhere is no directory of features"),
        (["compare", "--measures", "gfre,r2"], "got 'gfre', 'r2'"),
        (["compare", "mace"], "unknown model 'mace'"),
        (["compare", "-s", "nowhere.xyz"], "nowhere.xyz does not exist"),
        (["compare", "--order", "12"], "order: input should be less than or equal to 8"),
        (["compare", "--preset", "paper"], "preset: input should be 'chorna2025', got 'paper'"),
        (["compare", "-o", "/dev/null"], "is a file"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(all_models: None, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_names_every_backend_and_package(all_models: None) -> None:
    result = run("doctor")
    assert result.returncode == 0
    for backend in ("cpu", "cuda", "triton", "reference"):
        line = next(line for line in result.stdout.splitlines() if line.startswith(f"backend {backend} "))
        assert "available" in line or "missing: " in line
    assert "package chgnet           installed 0.4.2" in result.stdout


FAMILY = """
from dataclasses import replace
from latentcmp.models.families.chgnet import CARDS as OTHERS

CARDS = (replace(OTHERS[0], name="toy-1", family="toy", package="latentcmp-toy-model", licence="toy licence"),)

def load(card, path, device, trust):
    raise NotImplementedError
"""


def test_families_of_installed_packages_are_shown(tmp_path: Path) -> None:
    metadata = tmp_path / "latentcmp_toy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: latentcmp-toy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[latentcmp.families]\ntoy = latentcmp_toy_family\nbad = nowhere\n")
    (tmp_path / "latentcmp_toy_family.py").write_text(FAMILY)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    models, doctor = run("models", PYTHONPATH=path), run("doctor", PYTHONPATH=path)
    assert "toy-1  missing: pip install latentcmp-toy-model" in models.stdout
    assert "toy licence" in models.stdout
    assert "package latentcmp-toy-model missing: pip install latentcmp-toy-model" in doctor.stdout
    for output in (models.stdout, doctor.stdout):
        assert "the model family 'bad' of package latentcmp-toy cannot be used: ModuleNotFoundError" in output
