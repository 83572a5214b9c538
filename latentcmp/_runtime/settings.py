"""Context managers for process-wide settings of torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread for each operation, and restore the number afterwards.

    Message passing on a few dozen atoms and LAPACK on small matrices are slower with more threads, most of all on a
    machine with other load.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_precision() -> Iterator[None]:
    """Set the default dtype of torch to float32, which model packages assume, and restore it afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
