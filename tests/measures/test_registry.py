"""A row of the table of measures is all that a measure needs."""

import csv
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

import latentcmp
from latentcmp.cli.tables import show_comparison
from latentcmp.errors import InputError
from latentcmp.measures.inputs import SampledMatrices
from latentcmp.measures.measure import ERROR, Measure, MeasureOptions
from latentcmp.measures.registry import MEASURES, check_measures, register


def widths_ratio(sample: SampledMatrices, options: MeasureOptions) -> Tensor:
    """A directed measure: D_X / D_Y."""
    widths = torch.tensor([float(values.shape[1]) for values in sample.values.values()])
    return widths[:, None] / widths


@pytest.fixture
def measures() -> object:
    """The table of measures; rows that a test adds are removed."""
    before = dict(MEASURES)
    yield MEASURES
    MEASURES.clear()
    MEASURES.update(before)


def features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    return {"x": x, "y": np.tanh(x @ rng.normal(size=(4, 2)))}


def test_a_row_is_enough(measures: object, tmp_path: Path) -> None:
    register(Measure("ratio", "Ratio", "of widths", directed=True, quantity=ERROR, rows=widths_ratio))
    found = latentcmp.compare_features(features(), measures=["ratio", "gfre"])
    assert found.atoms.ratio["x", "y"] == 2
    assert found.atoms.ratio["y", "x"] == 0.5
    found.save(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["atoms"]["ratio"] == [[1, 2], [0.5, 1]]
    assert list(results["atoms"]["details"]) == ["gfre"]
    with (tmp_path / "ratio.csv").open() as file:
        assert list(csv.reader(file)) == [["source\\target", "x", "y"], ["x", "1.0", "2.0"], ["y", "0.5", "1.0"]]
    assert [axis.get_title() for axis in found.plot().axes[:2]] == ["Ratio: of widths", "GFRE: one linear map"]
    console = Console(file=StringIO(), width=80)
    show_comparison(console, found)
    assert "Ratio between atoms" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "Ratio (source in rows, target in columns)" in repr(found)


def test_every_measure_gives_values_of_its_kind() -> None:
    for limit in (10_000, 20):  # all test rows, and a sample of them
        found = latentcmp.compare_features(features(), measures=list(MEASURES), local_test_rows=limit)
        for name, measure in MEASURES.items():
            values = getattr(found.atoms, name).values
            assert values.shape == ((2, 2) if measure.kind == "pair" else (2,))
            assert values.dtype == torch.float64
            assert bool(values.isfinite().all())
            if measure.kind == "pair":
                assert torch.equal(values, values.T) != measure.directed
                assert bool(getattr(found.atoms, name).summaries) == (measure.needs == "row_errors")


def test_similarities_are_those_of_the_training_rows() -> None:
    rows = features()
    test = np.arange(20)
    found = latentcmp.compare_features(rows, test_idx=test, measures=["linear_cka", "effective_rank"])
    x, y = rows["x"][20:], rows["y"][20:]
    assert found.atoms.linear_cka["x", "y"] == pytest.approx(latentcmp.similarity.linear_cka(x, y), rel=1e-12)
    assert found.atoms.effective_rank["y"] == pytest.approx(latentcmp.similarity.effective_rank(y), rel=1e-12)


def test_names_are_checked(measures: object) -> None:
    for wrong in ([], ["gfre", "r2"], "gfre"):
        with pytest.raises(InputError, match="measures must be a list of some of gfre, gfrd, lfre"):
            check_measures(wrong)
    check_measures(["gfre", "linear_cka"])
    with pytest.raises(InputError, match="there is a measure 'cca' already"):
        register(Measure("cca", "CCA", "another", rows=widths_ratio))
    with pytest.raises(InputError, match="must be an identifier, got 'a b'"):
        Measure("a b", "", "", rows=widths_ratio)
    with pytest.raises(InputError, match="needs a function"):
        Measure("empty", "", "")
    register(Measure("flat", "Flat", "of the wrong shape", rows=lambda rows, options: torch.zeros(2)))
    with pytest.raises(InputError, match=r"flat must give values of shape \(2, 2\), got \(2,\)"):
        latentcmp.compare_features(features(), measures=["flat"])
