"""How many structures the variance of a matrix comes from."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from latentcmp.measures.bootstrap import Owners
from latentcmp.statistics.part_moments import PartMoments

LEAST_EFFECTIVE = 30
LARGEST_SHARE = 0.05


class VarianceShare(NamedTuple):
    """Shares s of the structures in the variance of a matrix.

    Attributes:
        effective: 1 / sum s^2, the number of structures with equal shares that concentrate the variance as much.
        largest: the largest share.
        structure: the structure that has it.
    """

    effective: float
    largest: float
    structure: str


def variance_shares(rows: Mapping[str, Tensor], owners: Owners) -> dict[str, VarianceShare]:
    """Return the shares of the structures in the variance of each matrix.

    Args:
        rows: {name: [n, D]} about their means.
        owners: the structure of each row.
    """
    shares = {}
    for name, values in rows.items():
        of_structures = torch.bincount(owners.codes, values.square().sum(1).double().cpu(), len(owners.names))
        of_structures = of_structures / of_structures.sum()
        worst = int(of_structures.argmax())
        effective = float(1 / of_structures.square().sum())
        shares[name] = VarianceShare(effective, float(of_structures[worst]), str(owners.names[worst]))
    return shares


class Size(NamedTuple):
    """How well the rows determine a matrix.

    Attributes:
        columns: D.
        rows_per_column: training rows of a fold over D.
        effective_rank: exponential of the entropy of the covariance spectrum (`latentcmp.similarity.effective_rank`).
    """

    columns: int
    rows_per_column: float
    effective_rank: float


def sizes(moments: PartMoments, n_train: int) -> dict[str, Size]:
    """Return the sizes of matrices from the moments of all parts."""
    parts = range(len(moments.counts))
    mean = moments.mean(parts)
    found = {}
    for name, columns in moments.columns.items():
        spectrum = torch.linalg.eigvalsh(moments.gram_about(parts, mean, columns)[:, columns]).clamp(min=0)
        entropy = torch.special.entr(spectrum / spectrum.sum()).sum()
        width = columns.stop - columns.start
        found[name] = Size(width, n_train / width, float(entropy.exp()))
    return found


def concentrated(shares: Mapping[str, VarianceShare], rows: str) -> Iterator[str]:
    """Yield a warning for each matrix whose variance a few structures determine."""
    for name, share in shares.items():
        if share.effective < LEAST_EFFECTIVE or share.largest > LARGEST_SHARE:
            yield (
                f"the variance of {name} between {rows} is that of {share.effective:.1f} structures (N_eff); "
                f"{share.structure} alone has {share.largest:.0%}: errors in its units depend on single structures"
            )
