"""The runtime that is locked for a target, read without tomllib, which Python 3.9 has not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from bundler.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEADER = re.compile(r"\[([\w.-]+)\]")
# The one kind of value that is looked for: a string without escapes.
STRING = re.compile(r'([\w-]+)\s*=\s*"([^"\\]*)"\s*(?:#.*)?')
# As the release names its archives.
NAMING = ("version", "tag", "triple", "flavour")
NAME = "cpython-{version}+{tag}-{triple}-{flavour}.tar.gz"
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LockedRuntime:
    """A CPython of python-build-standalone: its archive's name, hash and place in the release."""

    version: str
    name: str
    sha256: str
    tag: str

    def url(self, release: str) -> str:
        """Return the archive's address where `release` is the beginning of every release's."""
        return f"{release.rstrip('/')}/{self.tag}/{quote(self.name)}"


def strings(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the lines `key = "value"` of a TOML file, by table. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path.name} cannot be read", why=str(error), next_step="git checkout bundle"
        ) from error
    tables: dict[str, dict[str, str]] = {}
    table: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        header, string = HEADER.fullmatch(line), STRING.fullmatch(line)
        if header:
            table = tables.setdefault(header[1], {})
        elif string:
            table[string[1]] = string[2]
    return tables


def locked_runtime(lock: Path, target: str) -> LockedRuntime:
    """Return what the file at `lock` says of `target`. Raises UnsupportedError, UsageError."""
    tables = strings(lock)
    if target not in tables:
        raise UnsupportedError(
            f"no runtime is locked for {target}",
            why=f"{lock.name} holds {', '.join(tables) or 'nothing'}",
            next_step="install CPython 3.11 with venv and pip",
        )
    entry = tables[target]
    missing = [key for key in (*NAMING, "sha256") if not entry.get(key)]
    if missing or not SHA256.fullmatch(entry["sha256"]):
        raise UsageError(
            f"{lock.name}: [{target}] cannot be used",
            why=f"it lacks {', '.join(missing) or 'a sha256 in hex'}",
            next_step=f"git checkout {lock.name}",
        )
    return LockedRuntime(
        version=entry["version"],
        name=NAME.format_map(entry),
        sha256=entry["sha256"],
        tag=entry["tag"],
    )
