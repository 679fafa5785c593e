"""The token that clients may have to show: how it reaches the service.

On the command line every user of the machine could read it, so it comes by standard input, a file
or the environment. It is never logged, and no error quotes it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path

from sidecar.errors import UsageError

VARIABLE = "SIDECAR_TOKEN"
STDIN = 0
STDIN_WAIT_S = 10.0
MIN_CHARS, MAX_CHARS = 16, 512
_VISIBLE = re.compile(rb"[\x21-\x7e]+")


def take(environment: MutableMapping[str, str]) -> str | None:
    """Return the token of the environment, and remove it there: children inherit none."""
    return environment.pop(VARIABLE, None)


def read(*, is_on_stdin: bool, file: Path | None, variable: str | None) -> bytes | None:
    """Return the token from where it was said to be, None if nothing was said.

    Standard input and files go before `variable`, the environment's. Raises UsageError.
    """
    if is_on_stdin:
        return _checked(from_stdin(), "standard input")
    if file is not None:
        return _checked(from_file(file), "the file")
    return None if variable is None else _checked(os.fsencode(variable), VARIABLE)


def from_stdin(descriptor: int = STDIN, *, wait_s: float = STDIN_WAIT_S) -> bytes:
    """Return the first line; not a byte after it is read, as the rest is the parent's lease.

    Raises UsageError if none comes in `wait_s`.
    """
    line = bytearray()
    ends: list[bytes] = []

    def read_line() -> None:
        try:
            while (byte := os.read(descriptor, 1)) not in (b"\n", b""):
                line.extend(byte)
                if len(line) > MAX_CHARS + 1:  # a carriage return may follow the longest
                    break
        except OSError:
            byte = b""
        ends.append(byte)

    # A thread, as a pipe cannot be waited for with a limit on every system. One that is left
    # behind ends with the process, which has no token to go on with.
    thread = threading.Thread(target=read_line, name="token", daemon=True)
    thread.start()
    thread.join(wait_s)
    step = "write the token and a newline to the service's standard input"
    if not ends:
        what = "standard input has no token"
        raise UsageError(what, why=f"waited {wait_s:g} s for a line", next_step=step)
    if ends[0] == b"":
        what = "standard input ended before a line"
        raise UsageError(what, why="--token-stdin reads one line", next_step=step)
    return bytes(line).removesuffix(b"\r")


def from_file(path: Path) -> bytes:
    """Return the one line in the file `path`, which no other user may read. Raises UsageError."""
    step = f"make it your file with mode 0600: chmod 600 {path}"
    try:
        # Opened before it is looked at, so that what is looked at is what is read; a pipe without
        # a writer does not hold it up.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, FileNotFoundError):
            step = "write the token to your file with mode 0600"
        raise UsageError("the token file cannot be read", why=why, next_step=step) from error
    try:
        _require_private(os.fstat(descriptor), step)
        text = os.read(descriptor, MAX_CHARS + 3)
    finally:
        os.close(descriptor)
    return text.removesuffix(b"\n").removesuffix(b"\r")


def _require_private(found: os.stat_result, step: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UsageError("the token file is not a regular file", next_step=step)
    if sys.platform == "win32":
        return
    if found.st_uid != os.geteuid():
        step = "start the service as its owner, or give the file to the user that starts it"
        raise UsageError("the token file belongs to another user", next_step=step)
    if found.st_mode & 0o077:
        why = f"its mode is {stat.S_IMODE(found.st_mode):04o}"
        raise UsageError("other users can reach the token file", why=why, next_step=step)


def _checked(token: bytes, place: str) -> bytes:
    step = "use 32 random bytes in hexadecimal: openssl rand -hex 32"
    if not MIN_CHARS <= len(token) <= MAX_CHARS:
        why = f"it must have {MIN_CHARS} to {MAX_CHARS} characters"
        raise UsageError(f"the token from {place} is of a wrong length", why=why, next_step=step)
    if not _VISIBLE.fullmatch(token):
        why = "a bearer token has only visible ASCII characters"
        raise UsageError(f"the token from {place} cannot be sent", why=why, next_step=step)
    return token
