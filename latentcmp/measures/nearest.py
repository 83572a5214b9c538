"""The nearest training rows of each test row."""

import torch
from torch import Tensor

from latentcmp._runtime.devices import map_over_cores

_CACHED = 64 << 20, 512
_FILLING = 1 << 30, 4096  # fewer rows leave most of a GPU idle and are outlasted by the launches of their kernels


def rows_at_once(numbers: int, device: torch.device) -> int:
    """Test rows for each of which so many float64 numbers can be held.

    About 64 MiB in all and at most 512 rows on a CPU, elsewhere 1 GiB and 4096 rows, and no more than a quarter of the
    memory that is free on a CUDA device.
    """
    size, most = _CACHED if device.type == "cpu" else _FILLING
    if device.type == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 4)
    return max(1, min(most, size // (8 * numbers)))


def nearest(x_train: Tensor, x_test: Tensor, k: int, batch_size: int | None = None) -> Tensor:
    """Positions [n_test, k] of the k nearest training rows (Euclidean), nearest first, exact ties in row order.

    Distances of `batch_size` test rows to all training rows are held at once on each core (default: as many as
    fit in about 64 MiB, on a GPU in 1 GiB).
    """
    batch_size = batch_size or rows_at_once(2 * len(x_train), x_train.device)
    norms = torch.linalg.vecdot(x_train, x_train)

    def search(start: int) -> Tensor:
        # Squared distances less |x_test|^2, which orders nothing.
        distance = torch.addmm(norms, x_test[start : start + batch_size], x_train.T, alpha=-2)
        return _smallest(distance, k)

    return torch.cat(map_over_cores(search, range(0, len(x_test), batch_size), x_train.device))


def _smallest(distance: Tensor, k: int) -> Tensor:
    """Columns [m, k] of the k smallest of each row, smallest first, ties in column order."""
    values, columns = distance.topk(k, dim=1, largest=False)
    crowded = ((distance <= values[:, -1:]).sum(1) > k).nonzero()[:, 0]
    if len(crowded):  # topk takes any of those tied for the last places
        columns[crowded] = _first_of_ties(distance[crowded], values[crowded, -1:], k)
    columns = columns.sort(1).values
    return columns.gather(1, distance.gather(1, columns).argsort(dim=1, stable=True))


def _first_of_ties(distance: Tensor, kth: Tensor, k: int) -> Tensor:
    closer, tied = distance < kth, distance == kth
    room = k - closer.sum(1, keepdim=True)
    return (closer | (tied & (tied.cumsum(1) <= room))).nonzero()[:, 1].reshape(-1, k)
