"""Progress of a run and its wall time by part."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

Progress = Callable[[str, int, int], None]
Advance = Callable[[int], None]


class Timing:
    """Seconds by part; a part entered again adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = perf_counter()

    def total(self) -> dict[str, float]:
        """The parts, and under "total" the wall time since the beginning."""
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
    """From `progress(label, done, total)` a function that is told what each step adds."""
    done = 0

    def advance(step: int) -> None:
        nonlocal done
        done += step
        assert progress is not None
        progress(label, done, total)

    return advance if progress else None
