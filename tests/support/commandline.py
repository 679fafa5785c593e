"""The builder's command line in this process, on a checkout of a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler import environment
from bundler.cli import main
from bundler.project import Project

if TYPE_CHECKING:
    import pytest


class Run:
    """Runs the command line on the miniature's checkout; keeps what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.code = 0
        self.output = ""
        self.talk = ""

    def __call__(self, *arguments: object) -> Run:
        self.code = main([str(argument) for argument in arguments])
        self.output, self.talk = self.capsys.readouterr()
        return self


def running(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return what runs commands on `project`, as if its environment were the one we are in."""
    monkeypatch.setattr(Project, "here", lambda: project)
    monkeypatch.setattr(environment, "is_inside", lambda _: True)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return Run(capsys)
