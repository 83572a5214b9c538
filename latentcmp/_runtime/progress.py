"""Progress and wall times of a run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

Progress = Callable[[str, int, int], None]
Advance = Callable[[int], None]


class Timing:
    """Wall times of the parts of a run, in seconds; times of the same part are added."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = perf_counter()

    def total(self) -> dict[str, float]:
        """Return the times by part, with the time since the start as "total"."""
        return {**self.seconds, "total": perf_counter() - self._start}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to a part."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


def counted(progress: Progress | None, label: str, total: int) -> Advance | None:
    """Return a function that adds a step and reports `progress(label, done, total)`; None without `progress`."""
    done = 0

    def advance(step: int) -> None:
        nonlocal done
        done += step
        assert progress is not None
        progress(label, done, total)

    return advance if progress else None
