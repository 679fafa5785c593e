"""Everything that ends the service early, one exit code per kind, as in the builder.

ServiceError            1   a bug in the service
+ UsageError            2   usage or configuration
+ AddressInUseError     3   the port is taken
+ IntegrityError        4   the bytes are not the locked ones
+ UnreachableError      5   the model is not here, and may not or cannot be fetched; or no cluster
+ DiskError             6   no space, or no right to read
+ PolicyError           7   refused by a rule
+ UnsupportedError     10   the system or processor is too old, or a foreign library breaks it
+ ModelError           11   a model cannot be loaded

8 and 9 are the builder's own: verification, smoke test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


def printable(text: str, *, keep: str = "") -> str:
    """Return `text` with everything escaped that a terminal would act on or could not show.

    That is control characters, line ends, marks that turn the direction of writing, and surrogates,
    which stand for bytes of a name that is not UTF-8. Characters in `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


@dataclass(eq=False, repr=False)
class ServiceError(Exception):
    """A failure, its reason, and the command or edit that helps; `exit_code` is the process's.

    `facts` are what a program may want to know of it, by names of their own.
    """

    exit_code: ClassVar[int] = 1
    what: str
    why: str = ""
    next_step: str = ""
    facts: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Say what happened where it is told as any error is."""
        super().__init__(self.what)

    def render(self) -> str:
        """Return the message as people see it, one line per part, fit for a terminal."""
        lines = [f"error: {self.what}"]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return printable("\n".join(lines), keep="\n")


class UsageError(ServiceError):
    """The command line asks for something that makes no sense here."""

    exit_code = 2


class AddressInUseError(ServiceError):
    """Something else listens on the port."""

    exit_code = 3


class IntegrityError(ServiceError):
    """The bytes are not the bytes that were locked."""

    exit_code = 4


class UnreachableError(ServiceError):
    """The model is not on this machine, and may not or cannot be fetched; or no cluster answers."""

    exit_code = 5


class DiskError(ServiceError):
    """The disk is full, or the place cannot be read or written."""

    exit_code = 6


class PolicyError(ServiceError):
    """A rule of safety refuses it."""

    exit_code = 7


class UnsupportedError(ServiceError):
    """The system or processor is too old for the bundle, or brings libraries that break it."""

    exit_code = 10


class ModelError(ServiceError):
    """A model cannot be loaded, or does not give the vectors it should."""

    exit_code = 11
