"""Progress bars in the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Atoms per second, for bars that count atoms."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} atoms/s" if speed and task.fields["atoms"] else "", style="cyan")


@contextmanager
def progress_bars(console: Console) -> Iterator[Any]:
    """Yield a function of label, done and total that shows one bar for each label."""
    columns = (
        TextColumn("{task.description:<26}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    bars = Progress(*columns, console=console)

    def advance(label: str, done: int, total: int) -> None:
        if label not in tasks:
            bars.start()
            tasks[label] = bars.add_task(label, total=total, atoms=not label.startswith("errors"))
        bars.update(tasks[label], completed=done)

    try:
        yield advance
    finally:
        if tasks:
            bars.stop()
