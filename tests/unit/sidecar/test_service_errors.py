from __future__ import annotations

from sidecar import errors
from sidecar.errors import ServiceError


def kinds() -> list[type[ServiceError]]:
    # Where the builder is loaded, it has kinds of its own.
    own = [kind for kind in ServiceError.__subclasses__() if kind.__module__ == errors.__name__]
    return [ServiceError, *own]


def test_every_kind_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in kinds()]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


def test_the_table_in_the_docstring_names_every_kind_and_code() -> None:
    for kind in kinds():
        lines = [line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line]
        assert len(lines) == 1, kind
        assert str(kind.exit_code) in lines[0].split()


def test_a_message_says_what_why_and_next() -> None:
    error = ServiceError("it failed", why="a reason", next_step="a command")
    assert error.render() == "error: it failed\n  why: a reason\n  next: a command"
    assert ServiceError("it failed").render() == "error: it failed"
