"""Output files: one row of the table adds one, and those of an earlier comparison are removed."""

import csv
import json
from pathlib import Path

import pytest
import torch

from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.report import outputs
from latentcmp.report.content import Report, Tables
from latentcmp.report.files import save

GFRE = ErrorMatrix("gfre", ("a", "b"), torch.tensor([[0.0, 0.1], [1 / 3, 0.0]], dtype=torch.float64))
RANK = FeatureValues("effective_rank", ("a", "b"), torch.tensor([2.0, 3.5], dtype=torch.float64))


def test_a_report_has_tables_figures_and_numbers(tmp_path: Path) -> None:
    levels = {"": Tables([GFRE, RANK], 8, 2), "_structures": Tables([GFRE], 4, 1, "structures")}
    written = save(Report(levels, {"a": GFRE}, {"numbers": [1]}), tmp_path)
    names = ["gfre.csv", "effective_rank.csv", "gfre_structures.csv", "heatmap.png", "cumulants.png", "results.json"]
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
    levels = {"": Tables([GFRE], 8, 2)}
    save(Report(levels, {"a": GFRE}), tmp_path)
    assert (tmp_path / "names.txt").read_text() == "a b"
    (tmp_path / "mine.txt").touch()
    save(Report(levels), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"gfre.csv", "heatmap.png", "results.json", "mine.txt"}
