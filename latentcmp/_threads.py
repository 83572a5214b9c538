"""How many threads torch uses inside an operation, held for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Hold torch at one thread an operation, and give its own count back.

    Message passing on a few dozen atoms and LAPACK on small matrices both run slower on more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
