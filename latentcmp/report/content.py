"""The matrices and numbers that a report renders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from latentcmp.measures.baseline_rows import BaselineRows
from latentcmp.measures.elements import ElementError
from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues

Table: TypeAlias = ErrorMatrix | FeatureValues


@dataclass(frozen=True)
class Tables:
    """Measures of one kind of rows.

    Args:
        tables: values of each measure.
        title: the numbers of rows.
        baselines: errors of baselines, by measure.
        learning_curve: global errors by the fraction of the training groups.
        elements: errors by element [source][target], by measure.
        warnings: what a reader has to know before the numbers.
    """

    tables: Sequence[Table]
    title: str
    baselines: Mapping[str, BaselineRows] = field(default_factory=dict)
    learning_curve: Mapping[float, ErrorMatrix] = field(default_factory=dict)
    elements: Mapping[str, Sequence[Sequence[Sequence[ElementError]]]] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """The content of the output files of a comparison.

    Args:
        levels: tables by the suffix of their file names: "" for atoms, "_structures" for structures.
        orders: for each model, errors between cumulant descriptors of different orders.
        results: every number, for results.json.
    """

    levels: Mapping[str, Tables]
    orders: Mapping[str, ErrorMatrix] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
