"""Process-wide settings of torch, held for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Hold torch at one thread an operation, and give its own count back.

    Message passing on a few dozen atoms and LAPACK on small matrices both run slower on more, and on a busy
    machine very much slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_precision() -> Iterator[None]:
    """Hold torch's default dtype at float32, which model packages take for granted, and give it back."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
