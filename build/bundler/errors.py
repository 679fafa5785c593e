"""Everything that ends a command early, one exit code per kind.

BundlerError            1   a bug in the builder
+ UsageError            2   usage or configuration
+ AddressInUseError     3   the port is taken
+ IntegrityError        4   the bytes are not the locked ones
+ UnreachableError      5   network, mirror or offline miss
+ DiskError             6   no space, or no right to write
+ PolicyError           7   refused by a rule
+ VerificationError     8   a bundle is not what its manifest says
+ SmokeError            9   a bundle does not do its job
+ UnsupportedError     10   the target is not supported, or a part is not locked for it
+ ModelError           11   a model cannot be loaded
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sidecar.arguments import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable


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


class BundlerError(Exception):
    """A failure with its reason and the next step; `exit_code` is the process's."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", next_step: str = "") -> None:
        """Take what happened, why it happened, and the command or edit that helps."""
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step

    def render(self) -> str:
        """Return the message as people see it, one line per part, fit for a terminal."""
        lines = [f"error: {self.what}"]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return printable("\n".join(lines), keep="\n")


class UsageError(BundlerError):
    """The command line, the recipe or a lock asks for something that makes no sense."""

    exit_code = 2


class AddressInUseError(BundlerError):
    """Something else listens on the port."""

    exit_code = 3


class IntegrityError(BundlerError):
    """The bytes are not the bytes we locked."""

    exit_code = 4


class UnreachableError(BundlerError):
    """A locked artifact could not be had from any source."""

    exit_code = 5


class DiskError(BundlerError):
    """The disk is full, or the place cannot be written."""

    exit_code = 6


class PolicyError(BundlerError):
    """A rule of the recipe, or of safety, refuses it."""

    exit_code = 7


class VerificationError(BundlerError):
    """A tree is not what its manifest says."""

    exit_code = 8


class SmokeError(BundlerError):
    """A bundle was started and did not do its job."""

    exit_code = 9


class UnsupportedError(BundlerError):
    """The target is unknown, or a part is not locked for it."""

    exit_code = 10


class ModelError(BundlerError):
    """A model cannot be loaded."""

    exit_code = 11


def unknown(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    option: str,
    error: type[BundlerError] = UsageError,
) -> BundlerError:
    """Return the error for a `kind` called `name`, with the `known` ones and the nearest of them.

    `option` is what it was given to.
    """
    listed = list(known)
    near = nearest(name, listed)
    return error(
        f"there is no {kind} {name!r}",
        why=f"the {kind}s are {', '.join(listed)}",
        next_step=f"{option} {near[0]}" if near else f"pass one of them to {option}",
    )
