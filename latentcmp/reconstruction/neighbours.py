"""The nearest training rows of each test row."""

import torch
from torch import Tensor


def nearest(x_train: Tensor, x_test: Tensor, k: int) -> Tensor:
    """Positions [n_test, k] of the k nearest training rows, nearest first, exact ties in row order.

    Holds the distances [n_test, n_train] at once: give a batch of test rows.
    """
    # Squared distances less |x_test|^2, which orders nothing.
    distance = torch.addmm(x_train.square().sum(1), x_test, x_train.T, alpha=-2)
    values, rows = distance.topk(k, dim=1, largest=False)
    crowded = ((distance <= values[:, -1:]).sum(1) > k).nonzero()[:, 0]
    if len(crowded):  # topk takes any of the rows tied for the last places
        rows[crowded] = _first_of_ties(distance[crowded], values[crowded, -1:], k)
    rows = rows.sort(1).values
    return rows.gather(1, distance.gather(1, rows).argsort(dim=1, stable=True))


def _first_of_ties(distance: Tensor, kth: Tensor, k: int) -> Tensor:
    closer, tied = distance < kth, distance == kth
    room = k - closer.sum(1, keepdim=True)
    return (closer | (tied & (tied.cumsum(1) <= room))).nonzero()[:, 1].reshape(-1, k)
