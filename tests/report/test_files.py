"""Output files: one row of the table adds one, and those of an earlier comparison are removed."""

import csv
import json
from pathlib import Path

import pytest
import torch

from latentcmp.measures.baseline_rows import BaselineRows
from latentcmp.measures.elements import ElementError
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.report import outputs
from latentcmp.report.content import Report, Tables
from latentcmp.report.files import save

GFRE = ErrorMatrix("gfre", ("a", "b"), torch.tensor([[0.0, 0.1], [1 / 3, 0.0]], dtype=torch.float64))
RANK = FeatureValues("effective_rank", ("a", "b"), torch.tensor([2.0, 3.5], dtype=torch.float64))


def test_a_report_has_tables_figures_and_numbers(tmp_path: Path) -> None:
    levels = {"": Tables([GFRE, RANK], "10 atoms"), "_structures": Tables([GFRE], "5 structures")}
    written = save(Report(levels, {"a": GFRE}, {"numbers": [1]}), tmp_path)
    figures = ["heatmap.png", "heatmap_structures.png", "cumulants.png"]
    names = ["gfre.csv", "effective_rank.csv", "gfre_structures.csv", *figures, "results.json"]
    assert [path.name for path in written] == names
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    with (tmp_path / "gfre.csv").open() as file:
        assert float(list(csv.reader(file))[2][1]) == 1 / 3
    with (tmp_path / "effective_rank.csv").open() as file:
        assert list(csv.reader(file)) == [["matrix", "effective_rank"], ["a", "2.0"], ["b", "3.5"]]
    assert json.loads((tmp_path / "results.json").read_text()) == {"numbers": [1]}


def test_a_row_adds_a_file_which_the_next_report_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(report: Report, path: Path) -> None:
        path.write_text(" ".join(report.levels[""].tables[0].names))

    row = outputs.Output("names.txt", names, lambda report: bool(report.orders))
    monkeypatch.setattr(outputs, "OUTPUTS", (row, *outputs.OUTPUTS))
    levels = {"": Tables([GFRE], "10 atoms")}
    save(Report(levels, {"a": GFRE}), tmp_path)
    assert (tmp_path / "names.txt").read_text() == "a b"
    (tmp_path / "mine.txt").touch()
    save(Report(levels), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"gfre.csv", "heatmap.png", "results.json", "mine.txt"}


def test_baselines_elements_and_the_learning_curve_have_files(tmp_path: Path) -> None:
    beside = BaselineRows(("a", "b"), {"element": [0.5, 0.25], "noise": [1e-4, 1e-3]}, {"element": [0.4, 0.2]})
    silicon = [[[ElementError("Si", 8, 3, 0.5, 0.75)] for _ in "ab"] for _ in "ab"]
    level = Tables([GFRE], "10 atoms", {"gfre": beside}, {0.5: GFRE, 1.0: GFRE}, {"gfre": silicon})
    save(Report({"": level}), tmp_path)
    assert (tmp_path / "learning_curve.png").stat().st_size > 1000
    with (tmp_path / "baselines.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[1] == ["gfre", "element", "a", "0.5", "0.4"]
    assert lines[4] == ["gfre", "noise", "b", "0.001", ""]
    with (tmp_path / "elements.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["measure", "source", "target", "element", "n_atoms", "n_groups", "over_total", "over_own"]
    assert lines[2] == ["gfre", "a", "b", "Si", "8", "3", "0.5", "0.75"]
    save(Report({"": Tables([GFRE], "10 atoms")}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"gfre.csv", "heatmap.png", "results.json"}
