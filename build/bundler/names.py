"""Names that people type where only a few are known: what is said of one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.errors import UsageError
from sidecar.arguments import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bundler.errors import BundlerError


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
