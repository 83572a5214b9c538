"""The matrices and numbers that a report renders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from latentcmp.measures.error_matrix import ErrorMatrix, FeatureValues

Table: TypeAlias = ErrorMatrix | FeatureValues


@dataclass(frozen=True)
class Tables:
    """Measures of one kind of rows.

    Args:
        tables: values of each measure.
        n_train: the number of training rows.
        n_test: the number of test rows.
        rows: what the rows are, such as "atoms".
    """

    tables: Sequence[Table]
    n_train: int
    n_test: int
    rows: str = "atoms"


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
