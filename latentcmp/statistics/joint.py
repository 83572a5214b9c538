"""One pass over the rows of several models, then every global error between them.

With a column of ones in front and a fixed pivot taken off, the rows of a part are [1 | X - p]. Their R factor, or
their Gram matrix, is all that global errors need: it has the same inner products as the rows, for every pair of
models at once, and R factors (by QR of stacked ones) and Gram matrices (by sums) merge.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latentcmp.errors import InputError
from latentcmp.reconstruction.pairs import Compressed, Measure, global_errors
from latentcmp.reconstruction.solvers import Folds, Solver
from latentcmp.statistics.storage import read_statistics, write_statistics

Method = Literal["qr", "gram"]
PARTS = ("fold 1", "fold 2", "test")
UNSEEN: dict[str, float] = {"qr": 0.0, "gram": 1e-7}  # of the largest singular value: the rounding of each method


class JointStatistics:
    """Second-order statistics of the rows of several models, in three parts: fold 1, fold 2 and test.

    `widths` names the feature matrices (models, layers, cumulant orders) and their columns. "qr" holds an R factor a
    part, exact to singular values of 1e-9 of the largest and below; "gram" a Gram matrix a part, several times faster,
    blind under 1e-7 of the largest singular value, where it cuts. Both are float64 whatever comes in, and their size
    does not depend on the number of rows. The pivot is the mean of the first rows seen.
    """

    def __init__(
        self, widths: Mapping[str, int], method: Method = "qr", device: torch.device | str | None = None
    ) -> None:
        if method not in UNSEEN:
            raise InputError(f"method must be one of {', '.join(UNSEEN)}, got {method!r}")
        if not widths or min(widths.values()) < 1:
            raise InputError(f"widths must name at least one matrix with at least one column, got {dict(widths)}")
        self.widths, self.method = dict(widths), method
        self.device = torch.device(device or "cpu")
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        size = 1 + sum(self.widths.values())
        self.parts = torch.zeros(3, size, size, dtype=torch.float64, device=self.device)
        self.counts = torch.zeros(3, dtype=torch.int64, device=self.device)
        self.pivot: Tensor | None = None

    def update(self, features: Mapping[str, Tensor], part: Tensor) -> None:
        """Add rows: {name: [n, D]} and their parts [n] (int64: 0 fold 1, 1 fold 2, 2 test), all on the device.

        Raises InputError for names, widths, lengths or devices that do not fit. Values are not looked at here, which
        would wait for the device: a NaN or infinity is found by `errors`.
        """
        rows = self._stacked(features, part)
        if not len(rows):
            return
        if self.pivot is None:
            self.pivot = rows.mean(0)
        rows = torch.cat([torch.ones_like(rows[:, :1]), rows - self.pivot], dim=1)
        for index in range(3):
            chosen = part == index
            self.counts[index] += chosen.sum()
            of_part = rows[chosen] if self.device.type == "cpu" else rows * chosen[:, None]  # no wait on a device
            self._add(index, of_part)

    def merge(self, other: "JointStatistics") -> None:
        """Add the rows that another statistic of the same widths and method has seen."""
        if (other.widths, other.method) != (self.widths, self.method):
            raise InputError(
                f"only statistics of the same widths and method merge, got {self.method} of {self.widths} and "
                f"{other.method} of {other.widths}"
            )
        if other.pivot is None:
            return
        if self.pivot is None:
            self.pivot = other.pivot.to(self.device)
        moved = other._about(self.pivot.to(other.device)).to(self.device)
        for index in range(3):
            if self.method == "gram":
                self.parts[index] += moved[index]
            else:
                self._add(index, moved[index])
        self.counts += other.counts.to(self.device)

    def errors(self, measure: Measure = "gfre", solver: Solver = "cutoff", alphas: np.ndarray | None = None) -> Tensor:
        """GFRE or GFRD of all ordered pairs: [n_names, n_names] on the CPU, sources in rows, in the order of `widths`.

        Raises InputError where a part has too few rows, a matrix is constant over training, or a value was not finite.
        """
        matrices = list(self.compressed().values())
        rows = [global_errors(source, matrices, measure, solver, alphas, UNSEEN[self.method]) for source in matrices]
        return torch.stack([torch.stack(row) for row in rows]).cpu()

    def compressed(self) -> dict[str, Compressed]:
        """For each matrix, rows that stand for its own: centred and scaled on all training rows, folds and test."""
        n_first, n_second, n_test = self.counts.tolist()
        if n_first < 1 or n_second < 1 or n_test < 1:
            seen = ", ".join(f"{n} in {name}" for n, name in zip((n_first, n_second, n_test), PARTS, strict=True))
            raise InputError(f"errors need rows in both folds and in the test part, got {seen}")
        assert self.pivot is not None
        mean = self._training_mean()
        first, second, test = (factor[:, 1:] for factor in self._factors(self._about(self.pivot + mean)))
        full = torch.linalg.qr(torch.cat([first, second]), mode="r").R
        found, start = {}, 0
        for name, width in self.widths.items():
            columns = slice(start, start + width)
            start += width
            scale = (full[:, columns].square().sum() / (n_first + n_second)).sqrt()
            if not bool(torch.isfinite(scale)):
                raise InputError(f"{name} held a NaN or an infinity in some training row; leave that structure out")
            if not bool(scale > 8 * torch.finfo(torch.float64).eps * (self.pivot + mean)[columns].norm()):
                raise InputError(f"{name} is constant over the {n_first + n_second} training rows")
            of_folds = [part[:, columns] / scale for part in (first, second, full)]
            folds = Folds(of_folds[0], of_folds[1], of_folds[2], n_first, n_second)
            found[name] = Compressed(folds, test[:, columns] / scale, n_test)
        return found

    def save(self, path: str | Path) -> None:
        """Write the statistics to a safetensors file, whole or not at all."""
        tensors = {"parts": self.parts, "counts": self.counts}
        if self.pivot is not None:
            tensors["pivot"] = self.pivot
        write_statistics(Path(path), tensors, {"widths": self.widths, "method": self.method})

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> "JointStatistics":
        """Read what `save` wrote. Raises InputError for a file that is missing, damaged or of another version."""
        tensors, known = read_statistics(Path(path))
        found = cls(known["widths"], known["method"], device)
        if tensors["parts"].shape != found.parts.shape or tensors["counts"].shape != found.counts.shape:
            raise InputError(
                f"{path} holds statistics of shape {tuple(tensors['parts'].shape)}, not those of its widths"
            )
        found.parts, found.counts = tensors["parts"].to(found.device), tensors["counts"].to(found.device)
        found.pivot = tensors["pivot"].to(found.device) if "pivot" in tensors else None
        return found

    def _stacked(self, features: Mapping[str, Tensor], part: Tensor) -> Tensor:
        if set(features) != set(self.widths):
            raise InputError(f"expected features of {', '.join(self.widths)}, got {', '.join(features)}")
        for name, width in self.widths.items():
            values = features[name]
            if values.shape != (len(part), width) or values.device.type != self.device.type:
                raise InputError(
                    f"{name} must be [{len(part)}, {width}] on {self.device}, "
                    f"got {tuple(values.shape)} on {values.device}"
                )
        return torch.cat([features[name].detach().to(torch.float64) for name in self.widths], dim=1)

    def _add(self, index: int, rows: Tensor) -> None:
        if self.method == "gram":
            self.parts[index].addmm_(rows.T, rows)
            return
        r = torch.linalg.qr(torch.cat([self.parts[index], rows]), mode="r").R
        self.parts[index].copy_(r)

    def _about(self, pivot: Tensor) -> Tensor:
        """The parts as they would be with another pivot: [1 | X - q] = [1 | X - p] T, T a unit upper triangle."""
        assert self.pivot is not None
        shift = torch.eye(self.parts.shape[1], dtype=torch.float64, device=self.device)
        shift[0, 1:] = self.pivot - pivot
        return shift.T @ self.parts @ shift if self.method == "gram" else self.parts @ shift

    def _training_mean(self) -> Tensor:
        """The mean of the training rows about the pivot."""
        if self.method == "gram":
            sums = self.parts[0, 0] + self.parts[1, 0]
            return sums[1:] / sums[0]
        r = torch.linalg.qr(torch.cat([self.parts[0], self.parts[1]]), mode="r").R
        return r[0, 1:] / r[0, 0]

    def _factors(self, parts: Tensor) -> Tensor:
        """Matrices with the inner products of the rows: R factors as they are, square roots of Gram matrices."""
        if self.method == "qr":
            return parts
        if not bool(torch.isfinite(parts).all()):
            return parts  # said by name in `compressed`
        values, vectors = torch.linalg.eigh(parts)
        return values.clamp(min=0).sqrt()[..., None] * vectors.mT
