"""Figures: one panel a measure, on the range of its quantity."""

import numpy as np
import torch

from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues
from latentcmp.measures.registry import MEASURES
from latentcmp.report.figures import cumulants, heatmap

NAMES = ("a", "b", "c")


def matrix(measure: str) -> ErrorMatrix:
    return ErrorMatrix(measure, NAMES, torch.rand(3, 3, generator=torch.Generator().manual_seed(0)).double())


def table(measure: str) -> ErrorMatrix | FeatureValues:
    single = MEASURES[measure].kind == "single"
    return FeatureValues(measure, NAMES, torch.arange(1.0, 4.0).double()) if single else matrix(measure)


def test_measures_of_one_quantity_share_a_colour_bar() -> None:
    figure = heatmap([matrix("gfre"), matrix("lfre")], 1000, 200)
    assert len(figure.axes) == 3
    assert figure.get_suptitle() == "200 test atoms, 1,000 training atoms"


def test_panels_hold_the_values_on_the_range_of_their_quantity() -> None:
    tables = [table(name) for name in MEASURES]
    figure = heatmap(tables, 10, 5)
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
        figure = heatmap([ErrorMatrix(name, ("a",), torch.tensor([[value]]).double())], 10, 5)
        (image,) = figure.axes[0].images
        assert sum(image.to_rgba(value)[:2]) > 1.5


def test_orders_of_many_models_are_drawn() -> None:
    figure = cumulants({f"model {i}": matrix("gfre") for i in range(5)})
    shown = [axis for axis in figure.axes if axis.get_visible() and axis.images]
    assert [axis.get_title() for axis in shown] == [f"model {i}" for i in range(5)]
