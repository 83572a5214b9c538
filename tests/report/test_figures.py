"""Figures: one panel a measure, on the range of its quantity."""

import numpy as np
import torch

from latentcmp.measures.baseline_rows import BEST_OTHER, ELEMENT, PERMUTED, BaselineRows
from latentcmp.measures.bootstrap import Summary
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.measures.registry import MEASURES
from latentcmp.report.content import Tables
from latentcmp.report.figures import cumulants, heatmap, learning_curve

NAMES = ("a", "b", "c")


def matrix(measure: str) -> ErrorMatrix:
    return ErrorMatrix(measure, NAMES, torch.rand(3, 3, generator=torch.Generator().manual_seed(0)).double())


def table(measure: str) -> ErrorMatrix | FeatureValues:
    single = MEASURES[measure].kind == "single"
    return FeatureValues(measure, NAMES, torch.arange(1.0, 4.0).double()) if single else matrix(measure)


def test_measures_of_one_quantity_share_a_colour_bar() -> None:
    figure = heatmap(Tables([matrix("gfre"), matrix("lfre")], "200 test atoms, 1,000 training atoms"))
    assert len(figure.axes) == 3
    assert figure.get_suptitle() == "200 test atoms, 1,000 training atoms"


def test_panels_hold_the_values_on_the_range_of_their_quantity() -> None:
    tables = [table(name) for name in MEASURES]
    figure = heatmap(Tables(tables, "10 atoms"))
    titles = {axis.get_title().replace("\n", " "): axis for axis in figure.axes}
    for values in tables:
        about = values.about
        axis = titles[f"{about.title}: {about.description}"]
        if isinstance(values, ErrorMatrix):
            (image,) = axis.images
            assert image.get_clim() == (about.quantity.low, about.quantity.high)
            np.testing.assert_array_equal(image.get_array(), values.values)
            assert axis.get_xlabel() == ("target" if about.directed else "")
        else:
            np.testing.assert_array_equal([bar.get_width() for bar in axis.patches], values.values)


def test_equal_matrices_are_light_in_every_measure() -> None:
    for name, value in (("gfre", 0.0), ("linear_cka", 1.0), ("procrustes", 0.0)):
        figure = heatmap(Tables([ErrorMatrix(name, ("a",), torch.tensor([[value]]).double())], "10 atoms"))
        (image,) = figure.axes[0].images
        assert sum(image.to_rgba(value)[:2]) > 1.5


def test_orders_of_many_models_are_drawn() -> None:
    figure = cumulants({f"model {i}": matrix("gfre") for i in range(5)})
    shown = [axis for axis in figure.axes if axis.get_visible() and axis.images]
    assert [axis.get_title() for axis in shown] == [f"model {i}" for i in range(5)]


def test_baselines_stand_under_the_models_and_mark_errors_that_are_no_better() -> None:
    values = torch.tensor([[0.0, 0.5, 0.9], [0.4, 0.0, 0.7], [0.6, 0.3, 0.0]]).double()
    cells = [[Summary(v, v / 2, 0, 1, 0.1, "s") for v in row] for row in values.tolist()]
    beside = BaselineRows(
        NAMES,
        {PERMUTED: [1.0, 1.0, 1.0], ELEMENT: [0.5, 0.5, 0.8], BEST_OTHER: [0.4, 0.3, 0.7]},
        {PERMUTED: [0.9, 0.9, 0.9], ELEMENT: [0.2, 0.2, 0.2]},
    )
    level = Tables(
        [ErrorMatrix("gfre", NAMES, values, cells)], "10 atoms", {"gfre": beside}, warnings=["of a: N_eff 2"]
    )
    axis = heatmap(level).axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == [*NAMES, PERMUTED, ELEMENT, BEST_OTHER]
    texts = np.array([text.get_text() for text in axis.texts]).reshape(6, 3)
    assert texts[0].tolist() == ["0.00\n(0.00)", "0.50*\n(0.25)", "0.90*\n(0.45)"]
    assert texts[2].tolist() == ["0.60*\n(0.30)", "0.30\n(0.15)", "0.00\n(0.00)"]
    assert texts[4].tolist() == ["0.50 (0.20)", "0.50 (0.20)", "0.80 (0.20)"]
    assert texts[5].tolist() == ["0.40", "0.30", "0.70"]
    below = heatmap(level).get_supxlabel()
    assert below.startswith("* no better than the elements alone")
    assert "of a: N_eff 2" in below


def test_a_learning_curve_has_a_panel_for_each_target() -> None:
    figure = learning_curve({0.25: matrix("gfre"), 1.0: matrix("gfre")})
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == ["→ a", "→ b", "→ c"]
    line = {line.get_label(): line for line in panels[1].lines}["a"]
    assert line.get_xdata().tolist() == [0.25, 1.0]  # type: ignore[union-attr]
    assert float(line.get_ydata()[0]) == matrix("gfre")["a", "b"]  # type: ignore[index]
