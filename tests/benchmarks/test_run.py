"""The benchmarks at a tiny scale: they run, check what they time, and write JSON that can be read."""

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("skmatter")
HOME = "latentcmp.benchmarks" if find_spec("latentcmp.benchmarks") else "benchmarks"


def rows_of(tmp_path: Path, *arguments: str) -> list[dict]:
    """Rows of the JSON that one run writes."""
    shared = ["--out", str(tmp_path), "--device", "cpu", "--threads", "1", "--repeat", "1"]
    path = import_module(f"{HOME}.run").main([*arguments, *shared])
    found = json.loads(path.read_text())
    assert found["operator"] == arguments[0]
    return found["rows"]


def test_reconstruction(tmp_path: Path) -> None:
    small = ("--shapes", "10k-128", "--local-shapes", "256-10", "--whole", "--scale", "0.05", "--models", "2")
    rows = rows_of(tmp_path, "reconstruction", *small)
    by_name = {row["name"]: row for row in rows if row["problem"].startswith("GFRE")}
    assert {"latentcmp gram", "latentcmp qr", "scikit-matter"} <= set(by_name)
    assert all(row["ms"] > 0 for row in by_name.values())
    assert by_name["latentcmp gram"]["error"] < 1e-8
    assert by_name["latentcmp qr"]["error"] < 1e-8
    *local, whole = (row for row in rows if row["problem"].startswith("LFRE"))
    assert whole["what"] == "all 1250 test rows"
    assert whole["error"] < 1e-6
    nearest = {row["name"]: row for row in local if "a test row" in row["what"]}
    assert set(nearest) == {"latentcmp", "latentcmp ridge", "scikit-matter", "scikit-learn KernelRidge"}
    assert nearest["latentcmp ridge"]["error"] < 1e-8
    doors = [row["name"] for row in rows if row["what"].startswith("all pairs")]
    assert doors.count("latentcmp compare_features") == 2  # GFRE and LFRE
    assert doors.count("scikit-matter") == 2
    assert by_name["latentcmp compare_features"]["error"] < 1e-8
    assert nearest["latentcmp"]["error"] < 1e-6
    folds = {row["name"]: row["error"] for row in rows if row["problem"].startswith("Five folds")}
    assert folds["latentcmp folds"] < 1e-8
    assert folds["latentcmp folds, stored features"] < 1e-8
    assert {"NumPy folds", "NumPy folds, refitted", "latentcmp folds, LFRE"} <= set(folds)


def test_peers_that_are_not_installed_are_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(import_module(f"{HOME}.run"), "find_spec", lambda name: None)
    small = ("--shapes", "10k-128", "--local-shapes", "256-10", "--scale", "0.02", "--models", "2")
    rows = rows_of(tmp_path, "reconstruction", *small)
    assert {row["name"] for row in rows} == {
        "latentcmp gram",
        "latentcmp qr",
        "latentcmp compare_features",
        "latentcmp",
        "latentcmp ridge",
        "latentcmp folds",
        "latentcmp folds, LFRE",
        "latentcmp folds, stored features",
        "NumPy folds",
        "NumPy folds, refitted",
    }
    assert "Not installed, left out: scikit-matter" in capsys.readouterr().out


def test_streaming(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "streaming", "--atoms", "20000", "--models", "2", "--width", "8", "--structures", "0")
    sizes = [row for row in rows if "atoms/s" in row]
    assert [row["atoms"] for row in sizes] == [20000]
    assert sizes[0]["atoms/s"] > 0
    assert any(row["name"].startswith("predicted") and row["value"] > 0 for row in rows)


def test_pooling(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "pooling", "--shapes", "64", "--scale", "0.001", "--only", "latentcmp reference")
    assert [row["error"] < 1e-5 for row in rows if row["name"] == "latentcmp reference"] == [True]


def test_pooling_is_drawn_over_columns_and_over_length(tmp_path: Path) -> None:
    arguments = [
        "--shapes",
        "16",
        "64",
        "--kinds",
        "ragged",
        "four",
        "--scale",
        "0.001",
        "--only",
        "latentcmp reference",
    ]
    rows_of(tmp_path, "pooling", *arguments)
    plot = import_module(f"{HOME}.plot")
    results = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    over_columns, over_length = plot.figure(results, columns=64).axes
    assert [list(line.get_xdata()) for line in over_columns.lines[:1]] == [[16, 64]]
    lengths = list(over_length.lines[0].get_xdata())
    assert lengths[0] == 4
    assert 20 < lengths[1] < 50
    path = plot.main([*map(str, tmp_path.glob("*.json")), "--out", str(tmp_path / "pooling.png")])
    assert path.read_bytes().startswith(b"\x89PNG")
