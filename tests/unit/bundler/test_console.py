from __future__ import annotations

import io

import pytest

from bundler.console import Console, Lines, Progress, Unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_messages_are_lines(stream: io.StringIO) -> None:
    Console(stream).say("hello")
    assert stream.getvalue() == "hello\n"


def test_a_closed_stream_does_not_end_a_build(stream: io.StringIO) -> None:
    stream.close()
    Console(stream).say("hello")


def test_where_there_is_no_terminal_progress_is_plain_lines(stream: io.StringIO) -> None:
    with Console(stream).progress("fetch") as progress:
        progress.start("torch", 20_000_000)
        progress.advance("torch", 20_000_000)
        progress.finish("torch")
        progress.note("numpy", "again")
    assert stream.getvalue() == "fetch torch: 20.0 of 20.0 MB, done\nfetch numpy: again\n"


def test_small_parts_end_without_a_line(stream: io.StringIO) -> None:
    with Console(stream).progress("fetch") as progress:
        progress.start("small", 1000)
        progress.advance("small", 1000)
        progress.finish("small")
    assert stream.getvalue() == ""


def test_each_part_is_counted_in_its_own_unit(stream: io.StringIO) -> None:
    lines = Lines(Console(stream), "assemble")
    lines.start("model", 20_000_000)
    lines.start("python", 3, unit="steps")
    lines.advance("python", 2)
    lines.finish("python")
    lines.start("service", None, unit="steps")
    lines.finish("service")
    lines.advance("model", 20_000_000)
    lines.finish("model")
    assert stream.getvalue().splitlines() == [
        "assemble python: 2 of 3 steps, done",
        "assemble service: 0 steps, done",
        "assemble model: 20.0 of 20.0 MB, done",
    ]


def test_long_work_speaks_every_few_seconds_and_not_more_often(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("bundler.console.time.monotonic", lambda: now)
    lines = Lines(Console(stream), "fetch")
    lines.start("torch", 100_000_000)
    for _ in range(11):
        now += 1.0
        lines.advance("torch", 1_000_000)
    assert stream.getvalue().splitlines() == [
        "fetch torch: 5.0 of 100.0 MB",
        "fetch torch: 10.0 of 100.0 MB",
    ]


def test_what_was_never_started_can_advance_and_finish(stream: io.StringIO) -> None:
    lines = Lines(Console(stream), "x")
    lines.advance("unknown", 6_000_000)
    lines.finish("unknown")
    assert stream.getvalue() == "x unknown: 6.0 MB, done\n"


def test_a_display_that_nobody_sees_takes_everything() -> None:
    progress = Progress()
    progress.start("a", None)
    progress.advance("a", 1)
    progress.finish("a")
    progress.note("a", "b")


@pytest.mark.parametrize(("unit", "amount"), [("bytes", "0/100 bytes"), ("steps", "  0/100\x1b")])
def test_on_a_terminal_there_are_bars_that_go_away(unit: Unit, amount: str) -> None:
    stream = Terminal()
    with Console(stream).progress("fetch") as progress:
        progress.start("torch", 100, unit=unit)
        progress.advance("torch", 50)
        progress.advance("unknown", 1)
        progress.note("torch", "[red]again[/red]")
        progress.finish("torch")
        progress.finish("torch")
    assert "torch: [red]again[/red]" in stream.getvalue()
    assert amount in stream.getvalue()
