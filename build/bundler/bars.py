"""Progress bars on a terminal, through rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from bundler.console import Progress

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import TaskID


class Bars(Progress):
    """One bar for each part that is under way; a finished one scrolls away."""

    def __init__(self, stream: TextIO, label: str, unit: str) -> None:
        """Draw on `stream`."""
        counts: list[ProgressColumn] = (
            [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
        )
        self.progress = RichProgress(
            TextColumn(f"{label} {{task.description}}"),
            BarColumn(bar_width=28),
            *counts,
            TimeElapsedColumn(),
            console=RichConsole(file=stream),
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Take the terminal."""
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def start(self, name: str, total: int | None) -> None:
        """Show a bar for `name`."""
        self.tasks[name] = self.progress.add_task(name, total=total)

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
