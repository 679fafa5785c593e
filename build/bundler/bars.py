"""Progress bars on a terminal, through rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from bundler.console import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

    from bundler.console import Unit


class Amount(ProgressColumn):
    """How much of a part is done, in its own unit, and how fast bytes come."""

    def __init__(self) -> None:
        """Have a column for either."""
        super().__init__()
        self.steps = MofNCompleteColumn()
        self.sizes, self.speed = DownloadColumn(), TransferSpeedColumn()

    def render(self, task: Task) -> Text:
        """Return the cell of one part."""
        if task.fields["unit"] == "steps":
            return self.steps.render(task)
        return Text(" ").join((self.sizes.render(task), self.speed.render(task)))


class Bars(Progress):
    """One bar for each part that is under way; a finished one scrolls away."""

    def __init__(self, stream: TextIO, label: str) -> None:
        """Draw on `stream`."""
        self.progress = RichProgress(
            TextColumn(f"{label} {{task.description}}"),
            BarColumn(bar_width=28),
            Amount(),
            TimeElapsedColumn(),
            console=RichConsole(file=stream),
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Take the terminal."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def start(self, name: str, total: int | None, *, unit: Unit = "bytes") -> None:
        """Show a bar for `name`."""
        self.tasks[name] = self.progress.add_task(name, total=total, unit=unit)

    def advance(self, name: str, amount: int) -> None:
        """Move the bar of `name`."""
        if name in self.tasks:
            self.progress.advance(self.tasks[name], amount)

    def finish(self, name: str) -> None:
        """Take the bar of `name` away."""
        if name in self.tasks:
            self.progress.remove_task(self.tasks.pop(name))

    def note(self, name: str, text: str) -> None:
        """Write a line above the bars."""
        self.progress.console.print(f"{name}: {text}", markup=False, highlight=False)
