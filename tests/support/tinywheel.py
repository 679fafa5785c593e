"""Wheels of a few bytes: real ones, and wrong ones."""

from __future__ import annotations

import base64
import hashlib
import stat
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def record_line(path: str, data: bytes) -> str:
    """Return RECORD's line for a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(data)}\n"


def tiny_wheel(  # noqa: PLR0913 - each is one thing a wheel may have wrong
    folder: Path,
    name: str = "tiny",
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    modules: Mapping[str, str] | None = None,
    data: Mapping[str, bytes] | None = None,
    extra: Mapping[str, bytes] | None = None,
    script: str | None = None,
    requires: tuple[str, ...] = (),
    executable: frozenset[str] = frozenset(),
    record: Mapping[str, bytes] | None = None,
    unlisted: frozenset[str] = frozenset(),
    format_version: str = "1.0",
) -> Path:
    """Write a wheel into `folder` and return its path.

    `modules` are sources by path, `data` files below `<name>-<version>.data/`, `extra` files
    anywhere, `script` a console script "command = module:function". `record` says what RECORD is
    to believe of a path, `unlisted` what it is to leave out.
    """
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
    metadata += "License-Expression: MIT\nLicense-File: LICENSE\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    pure = "true" if tag.endswith("-none-any") else "false"
    files = {
        path: text.encode()
        for path, text in (modules or {f"{name}/__init__.py": "VALUE = 1\n"}).items()
    }
    files |= {f"{name}-{version}.data/{path}": content for path, content in (data or {}).items()}
    files |= extra or {}
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: {format_version}\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode()
    )
    files[f"{info}/licenses/LICENSE"] = b"Do what you like.\n"
    if script is not None:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n".encode()
    lines = [
        record_line(path, (record or {}).get(path, content))
        for path, content in files.items()
        if path not in unlisted
    ]
    files[f"{info}/RECORD"] = ("".join(lines) + f"{info}/RECORD,,\n").encode()
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            mode = 0o755 if path in executable else 0o644
            add(archive, path, content, stat.S_IFREG | mode)
    return wheel


def add(archive: zipfile.ZipFile, path: str, content: bytes, mode: int) -> None:
    """Add one member with a Unix mode to an open zip."""
    member = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
    member.create_system = 3
    member.external_attr = mode << 16
    member.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(member, content)
