"""One fit gives the error of all rows and the errors of single rows: for whole matrices and for their first columns."""

import numpy as np
import pytest
import torch

from latentcmp.errors import InputError
from latentcmp.measures.global_errors import fit_global_maps, global_errors
from latentcmp.statistics.joint import JointStatistics
from latentcmp.systems.folds import halves, parts_of

skmatter_metrics = pytest.importorskip("skmatter.metrics")

N = 400


def matrices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(N, 9)) * np.geomspace(1, 0.1, 9) + 5
    b = np.tanh(a @ rng.normal(size=(9, 6))) + 0.1 * rng.normal(size=(N, 6))
    return {"a": a, "b": b}


def statistics(method: str) -> JointStatistics:
    test = np.zeros(N, dtype=bool)
    test[halves(N)[1]] = True
    order = np.concatenate([np.sort(halves(N)[0]), np.flatnonzero(test)])
    part = torch.from_numpy(parts_of(test[order])).long()
    found = JointStatistics({name: rows.shape[1] for name, rows in matrices().items()}, method)  # type: ignore[arg-type]
    found.update({name: torch.from_numpy(rows[order]) for name, rows in matrices().items()}, part)
    return found


def oracle(measure: str, x: np.ndarray, y: np.ndarray, **options: object) -> np.ndarray:
    """Row errors by scikit-matter, which needs a target as wide as the source for the distortion."""
    kind = {"gfre": "error", "gfrd": "distortion"}[measure]
    if measure == "gfrd":
        y = np.pad(y, [(0, 0), (0, max(0, x.shape[1] - y.shape[1]))])
    train, test = np.sort(halves(N)[0]), np.sort(halves(N)[1])
    score = getattr(skmatter_metrics, f"pointwise_global_reconstruction_{kind}")
    return score(x, y, train_idx=train, test_idx=test, **options)


def ridge(solver: str) -> dict[str, object]:
    from skmatter.linear_model import Ridge2FoldCV

    options = {"alphas": np.geomspace(1e-9, 0.9, 20), "alpha_type": "relative", "shuffle": True}
    options |= {"random_state": 0x5F3759DF, "scoring": "neg_root_mean_squared_error"}
    return {"estimator": Ridge2FoldCV(regularization_method="tikhonov", **options)} if solver == "ridge" else {}


@pytest.mark.parametrize("columns", [None, {"a2": ("a", 2), "a9": ("a", 9), "b4": ("b", 4), "a5": ("a", 5)}])
@pytest.mark.parametrize("solver", ["cutoff", "ridge"])
@pytest.mark.parametrize("measure", ["gfre", "gfrd"])
@pytest.mark.parametrize("method", ["qr", "gram"])
def test_errors_and_row_errors_agree_with_scikit_matter(
    method: str, measure: str, solver: str, columns: dict[str, tuple[str, int]] | None
) -> None:
    maps = fit_global_maps(statistics(method), solver, columns=columns)  # type: ignore[arg-type]
    chosen = {name: matrices()[name] for name in matrices()}
    if columns:
        chosen = {name: chosen[matrix][:, :n] for name, (matrix, n) in columns.items()}
    test = np.sort(halves(N)[1])
    rows = {name: maps.scalings[name](torch.from_numpy(values[test])) for name, values in chosen.items()}
    values = maps.errors(measure)  # type: ignore[arg-type]
    assert maps.names == list(chosen)
    for i, (source, x) in enumerate(chosen.items()):
        found = maps.row_errors(source, rows, measure)  # type: ignore[arg-type]
        for j, (target, y) in enumerate(chosen.items()):
            expected = oracle(measure, x, y, **ridge(solver))
            np.testing.assert_allclose(found[target], expected, rtol=1e-8, atol=1e-8)
            # A Gram matrix gives the square of an error to about eps of the target's variance.
            least = 1e-7 if method == "gram" else 1e-12
            assert values[i, j].item() == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-8, abs=least)


def test_errors_of_the_maps_are_those_of_the_function() -> None:
    found = statistics("qr")
    assert torch.equal(global_errors(found, "gfrd", "ridge"), fit_global_maps(found, "ridge").errors("gfrd"))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match=r"gfre and gfrd, got 'lfre'"):
        global_errors(statistics("qr"), "lfre")
    with pytest.raises(InputError, match="cutoff, ridge, got 'lasso'"):
        fit_global_maps(statistics("qr"), "lasso")  # type: ignore[arg-type]
