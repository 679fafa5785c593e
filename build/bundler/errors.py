"""Everything that ends a command early: the service's kinds, with its exit codes, and two more.

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

from typing import TYPE_CHECKING

from sidecar.arguments import nearest
from sidecar.errors import (
    AddressInUseError,
    DiskError,
    IntegrityError,
    ModelError,
    PolicyError,
    UnreachableError,
    UnsupportedError,
    UsageError,
    printable,
)
from sidecar.errors import ServiceError as BundlerError

if TYPE_CHECKING:
    from collections.abc import Iterable


class VerificationError(BundlerError):
    """A tree is not what its manifest says."""

    exit_code = 8


class SmokeError(BundlerError):
    """A bundle was started and did not do its job."""

    exit_code = 9


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
