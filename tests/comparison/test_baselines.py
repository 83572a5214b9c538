"""Baselines, errors by element, the learning curve and shares of structures beside the errors of matrices."""

import json
from pathlib import Path
from textwrap import fill

import numpy as np
import pytest
import torch

import latentcmp
from latentcmp.comparison.annotations import annotated
from latentcmp.comparison.noise import FeatureNoise
from latentcmp.comparison.result import Comparison
from latentcmp.errors import InputError
from latentcmp.measures.strength_search import default_strengths
from tests.measures.fold_cases import FOLDS, blocks, matrices, row_squares

N = 600
GROUPS = np.repeat(np.arange(60), 10).tolist()
NUMBERS = np.random.default_rng(3).choice([1, 6, 8, 92], N, p=[0.5, 0.3, 0.19, 0.01])
MEANS = np.random.default_rng(4).normal(size=(119, 10))
FOLD = np.array(FOLDS.fold_of_block)[blocks()]


def rows() -> dict[str, np.ndarray]:
    """Rows whose element matters."""
    return {name: values + 0.5 * MEANS[NUMBERS, : values.shape[1]] for name, values in matrices().items()}


@pytest.fixture(scope="module")
def found() -> Comparison:
    return latentcmp.compare_features(rows(), groups=GROUPS, numbers=NUMBERS, baselines=True, n_local_points=12)


def test_permuted_rows_are_no_better_than_the_mean(found: Comparison) -> None:
    beside = found.atoms.context.baselines
    assert beside["gfre"].values["permuted rows"] == pytest.approx([1, 1, 1], abs=0.05)
    assert all(0.95 < value < 1.25 for value in beside["lfre"].values["permuted rows"])


def test_the_element_baseline_is_that_of_indicators(found: Comparison) -> None:
    one_hot = (NUMBERS[:, None] == np.unique(NUMBERS)).astype(float)
    expected = [row_squares(one_hot, y, FOLD, default_strengths(), "ridge") for y in rows().values()]
    beside = found.atoms.context.baselines["gfre"]
    assert beside.values["element"] == pytest.approx([squares.mean() ** 0.5 for squares in expected], rel=1e-8)
    medians = [np.quantile(np.sqrt(squares), 0.5, method="lower") for squares in expected]
    assert beside.medians["element"] == pytest.approx(medians, rel=1e-8)
    assert all(within < 1 for within in beside.values["within element"])
    assert "element + coordination" not in beside.values  # there are no structures


def test_errors_by_element_are_those_of_its_rows(found: Comparison) -> None:
    squares = row_squares(rows()["a"], rows()["b"], FOLD, default_strengths(), "ridge")
    table = found.elements("a", "b")
    assert table.index.tolist() == ["H", "C", "O", "others"]
    for symbol, number in (("H", 1), ("O", 8), ("others", 92)):
        assert table.over_total[symbol] == pytest.approx(squares[number == NUMBERS].mean() ** 0.5, rel=1e-8)
        assert table.n_atoms[symbol] == (number == NUMBERS).sum()
    with pytest.raises(InputError, match="no errors of linear_cka by element"):
        found.elements("a", "b", "linear_cka")
    with pytest.raises(KeyError, match="not one of the matrices"):
        found.elements("a", "z")


def test_errors_within_elements_are_of_rows_about_their_element(found: Comparison) -> None:
    within = found.atoms.context.within_elements
    assert within is not None
    assert within.elements == [1, 6, 8]
    assert within.n_rows == int((NUMBERS != 92).sum())
    frequent = NUMBERS != 92
    total = {name: values[frequent] for name, values in rows().items()}
    numbers = NUMBERS[frequent]
    for name, values in total.items():
        inside = sum(((values[numbers == z] - values[numbers == z].mean(0)) ** 2).sum() for z in (1, 6, 8))
        assert within.shares[name] == pytest.approx(1 - inside / ((values - values.mean(0)) ** 2).sum(), rel=1e-9)


def test_the_learning_curve_ends_at_the_error_and_begins_above(found: Comparison) -> None:
    curve = found.atoms.context.learning_curve
    assert list(curve) == [1 / 8, 1 / 4, 1 / 2, 1]
    off = ~torch.eye(3, dtype=torch.bool)
    torch.testing.assert_close(curve[1].values[off], found.gfre.values[off], rtol=0.02, atol=0)
    assert bool((curve[1 / 8].values[off] > curve[1].values[off]).all())


def test_shares_of_structures_are_those_of_squares(found: Comparison) -> None:
    values = rows()["a"]
    squares = ((values - values.mean(0)) ** 2).sum(1)
    shares = np.bincount(GROUPS, squares) / squares.sum()
    share = found.atoms.context.variance["a"]
    assert share.effective == pytest.approx(1 / (shares**2).sum(), rel=1e-9)
    assert (share.largest, share.structure) == (pytest.approx(shares.max(), rel=1e-9), str(shares.argmax()))


def test_one_structure_with_most_of_the_variance_is_named() -> None:
    far = {name: np.where(np.array(GROUPS)[:, None] == 7, 50 * values, values) for name, values in rows().items()}
    found = latentcmp.compare_features(far, groups=GROUPS, measures=["gfre"])
    warning = found.atoms.context.warnings[0]
    assert "the variance of a between rows is that of 1.0 structures (N_eff); 7 alone has 9" in warning
    assert found.to_dict()["atoms"]["warnings"][0] == warning
    assert fill(warning, 130) in found.plot().get_supxlabel()


def test_noise_and_the_best_other_family_are_rows(found: Comparison) -> None:
    noise = FeatureNoise({name: {"s": (0.5 if name == "b" else 1e-6, 0.04, 4)} for name in "abc"})
    families = {"a": "one", "b": "one", "c": "two"}
    level = annotated(found.atoms, families, noise, {"a": 10.0, "b": 1.0, "c": 100.0})
    beside = level.context.baselines["gfre"].values
    assert beside["noise"] == pytest.approx([0.01, 0.1, 0.001])
    gfre = found.gfre
    assert beside["best other family"] == [gfre["c", "a"], gfre["c", "b"], min(gfre["a", "c"], gfre["b", "c"])]
    assert [line for line in level.context.warnings if "discontinuous" in line] == [
        "features of b are discontinuous: 1e-6 Angstrom moves s by more than 0.001 of their spread"
    ]


def test_all_of_it_is_written(found: Comparison, tmp_path: Path) -> None:
    found.save(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())["atoms"]
    assert set(results["baselines"]["gfre"]) >= {"permuted rows", "within element", "element"}
    assert results["elements"]["gfre"][0][1][0]["element"] == "H"
    assert list(results["learning_curve"]) == ["0.125", "0.25", "0.5", "1"]
    assert results["within_elements"]["errors"][0][1] > 0
    assert {"baselines.csv", "elements.csv", "learning_curve.png"} <= {path.name for path in tmp_path.iterdir()}


def test_wrong_numbers_are_named() -> None:
    for wrong in ([1, 6], np.zeros(N, dtype=int), np.ones(N)):
        with pytest.raises(InputError, match="numbers must hold the atomic number, 1 to 118, of each of 600 rows"):
            latentcmp.compare_features(rows(), groups=GROUPS, numbers=wrong, measures=["gfre"])


def test_sizes_are_those_of_the_matrices(found: Comparison) -> None:
    size = found.atoms.context.sizes["c"]
    assert (size.columns, size.rows_per_column) == (10, 48)
    expected = latentcmp.similarity.effective_rank(rows()["c"])
    assert size.effective_rank == pytest.approx(float(expected), rel=1e-9)


def test_it_is_said_what_intervals_hold_fixed(found: Comparison) -> None:
    said = found.atoms.context.intervals
    assert said == {
        "gfre": "delete-a-block jackknife, maps fitted again",
        "lfre": "bootstrap over groups, maps held fixed",
    }
