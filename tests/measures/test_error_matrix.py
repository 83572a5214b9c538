"""Labelled values: by name, as pandas objects, as text and as HTML."""

import pytest
import torch

from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues

MATRIX = ErrorMatrix("gfre", ("a", "b<c"), torch.tensor([[0.0, 0.25], [1.5, 0.0]], dtype=torch.float64))
VALUES = FeatureValues("effective_rank", ("a", "b"), torch.tensor([2.0, 3.5], dtype=torch.float64))


def test_a_pair_is_source_then_target() -> None:
    assert MATRIX["a", "b<c"] == 0.25
    assert MATRIX["b<c", "a"] == 1.5
    with pytest.raises(KeyError, match="'d' is not one of the matrices; they are a, b<c"):
        MATRIX["a", "d"]
    frame = MATRIX.to_pandas()
    assert frame.loc["b<c", "a"] == 1.5
    assert (frame.index.name, frame.columns.name) == ("source", "target")


def test_values_of_single_matrices_have_one_name() -> None:
    assert VALUES["b"] == 3.5
    with pytest.raises(KeyError, match="they are a, b"):
        VALUES["c"]
    series = VALUES.to_pandas()
    assert (series.name, series["b"]) == ("effective_rank", 3.5)
    assert repr(VALUES) == "Effective rank\n       a       b\n   2.000   3.500"
    assert VALUES._repr_html_().count("<td") == 2


def test_html_is_escaped_and_darker_for_larger_errors() -> None:
    html = MATRIX._repr_html_()
    assert "b&lt;c" in html
    assert "0.00)'>0.000" in html
    assert "0.17)'>0.250" in html
    assert "0.70)'>1.500" in html  # clipped at the end of the scale


def test_similarities_are_lighter_for_closer_matrices() -> None:
    html = ErrorMatrix("linear_cka", ("a", "b"), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double())._repr_html_()
    assert "0.00)'>1.000" in html
    assert "0.70)'>0.000" in html
    assert "symmetric" in html
