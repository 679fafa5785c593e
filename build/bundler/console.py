"""What people see while we work: lines on standard error, bars where there is a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from rich.progress import Task, TaskID
    from rich.text import Text

Unit = Literal["bytes", "steps"]
LINE_SECONDS = 5.0
QUIET_BYTES = 5_000_000
NOT_BEGUN: tuple[None, Unit] = (None, "bytes")


class Console:
    """Talk on one stream; standard output stays free for data."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, normally standard error."""
        self.stream = stream

    def say(self, text: str) -> None:
        """Write one message."""
        try:
            self.stream.write(f"{text}\n")
            self.stream.flush()
        except (OSError, ValueError):
            # A closed terminal must not end a build.
            return

    @contextlib.contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Give a progress display: bars on a terminal, else a line every few seconds."""
        if self.stream.isatty():
            with Bars(self.stream, label) as bars:
                yield bars
        else:
            yield Lines(self, label)


def print_lines(lines: Iterable[str]) -> None:
    """Write data to standard output, which messages leave free."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def print_json(document: object) -> None:
    """Write a document to standard output."""
    print_lines([json.dumps(document, indent=2, ensure_ascii=False)])


class Progress:
    """A display that shows nothing, the base of the others. Names identify what advances."""

    def start(self, name: str, total: int | None, *, unit: Unit = "bytes") -> None:
        """Begin `name`, of `total` units where that is known."""

    def advance(self, name: str, amount: int) -> None:
        """Count `amount` more units of `name`."""

    def finish(self, name: str) -> None:
        """End `name`."""

    def note(self, name: str, text: str) -> None:
        """Say something about `name` that people should see."""


class Lines(Progress):
    """Progress as plain lines: one at the end of each part, and one every few seconds between."""

    def __init__(self, console: Console, label: str) -> None:
        """Write through `console`."""
        self.console = console
        self.label = label
        self.totals: dict[str, tuple[int | None, Unit]] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.spoken = time.monotonic()
        self.lock = threading.Lock()

    def start(self, name: str, total: int | None, *, unit: Unit = "bytes") -> None:
        """Begin `name`."""
        with self.lock:
            self.totals[name] = total, unit
            self.counts[name] = 0

    def advance(self, name: str, amount: int) -> None:
        """Count, and speak if it has been quiet for a while."""
        with self.lock:
            self.counts[name] += amount
            now = time.monotonic()
            if now - self.spoken >= LINE_SECONDS:
                self.spoken = now
                self.console.say(f"{self.label} {name}: {self._amount(name)}")

    def finish(self, name: str) -> None:
        """Say that `name` is done, if it was worth waiting for."""
        with self.lock:
            _, unit = self.totals.get(name, NOT_BEGUN)
            if unit == "bytes" and self.counts[name] < QUIET_BYTES:
                return
            self.spoken = time.monotonic()
            self.console.say(f"{self.label} {name}: {self._amount(name)}, done")

    def note(self, name: str, text: str) -> None:
        """Say it."""
        self.console.say(f"{self.label} {name}: {text}")

    def _amount(self, name: str) -> str:
        count, (total, unit) = self.counts[name], self.totals.get(name, NOT_BEGUN)
        if unit == "steps":
            return f"{count} of {total} steps" if total else f"{count} steps"
        of = f" of {total / 1e6:.1f}" if total else ""
        return f"{count / 1e6:.1f}{of} MB"


class Bars(Progress):
    """One bar for each part that is under way; a finished one scrolls away."""

    def __init__(self, stream: TextIO, label: str) -> None:
        # rich is heavy, and only there once the environment is.
        from rich import progress  # noqa: PLC0415
        from rich.console import Console as Terminal  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        steps = progress.MofNCompleteColumn()
        sizes, speed = progress.DownloadColumn(), progress.TransferSpeedColumn()

        class Amount(progress.ProgressColumn):
            """How much of a part is done, in its own unit, and how fast bytes come."""

            def render(self, task: Task) -> Text:
                if task.fields["unit"] == "steps":
                    return steps.render(task)
                return Text(" ").join((sizes.render(task), speed.render(task)))

        self.progress = progress.Progress(
            progress.TextColumn(f"{label} {{task.description}}"),
            progress.BarColumn(bar_width=28),
            Amount(),
            progress.TimeElapsedColumn(),
            console=Terminal(file=stream),
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
