"""What pip is configured to do on this machine, and what of that reaches the pip we run.

pip's own order holds: the machine's file, the user's, the environment's (PIP_CONFIG_FILE), then
PIP_* variables; in each file [global], then [install] (pip's user guide, "Configuration"). Where
packages come from serves us and our own downloads; where they go would divert the build.
"""

from __future__ import annotations

import configparser
import locale
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.bootstrap import connection
from bundler.bootstrap.interpreters import without_python
from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECTIONS = ("global", "install")
# What pip may be told by others: where from, through what, trusting whom, how patiently.
KEPT = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host"),
    *("proxy", "cert", "client-cert", "keyring-provider"),
    *("timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir"),
)


def pip_options(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the options of pip's files and PIP_* variables by name, those of `install` included.

    Without a `cert` of its own it is what the variables of `trust` name. Raises UsageError for a
    file that cannot be read.
    """
    sections: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for path in configuration_files(environ):
        for section, options in _read(path).items():
            if section in sections:
                sections[section].update(options)
    merged: dict[str, str] = {}
    for section in SECTIONS:
        merged.update(_told(sections[section]))
    variables = {name[4:]: value for name, value in environ.items() if name.startswith("PIP_")}
    merged.update(_told({_normalized(name): value for name, value in variables.items()}))
    merged.pop("config-file", None)
    certificates = connection.configured_certificates(environ)
    return {"cert": certificates, **merged} if certificates else merged


def configuration_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield where pip looks for its configuration, what it overrides first."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    yield from _files_of_the_machine(environ)
    if not (named and Path(named).exists()):
        yield from _files_of_the_user(environ)
    # pip asks its own environment; ours has no such file, what it was made from may have one.
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        yield Path(prefix, _basename())
    if named:
        yield Path(named)


def pip_environment(
    environ: Mapping[str, str], options: Mapping[str, str], certificates: Path | None
) -> dict[str, str]:
    """Return `environ` for a pip that is told what KEPT allows of `options`, and nothing else."""
    kept = {
        name: value
        for name, value in without_python(environ).items()
        if not name.startswith("PIP_")
    }
    told = {name: value for name, value in options.items() if name in KEPT}
    if certificates is not None:
        told["cert"] = str(certificates)
    kept.update({f"PIP_{name.upper().replace('-', '_')}": value for name, value in told.items()})
    kept["PIP_CONFIG_FILE"] = os.devnull
    return kept


def _told(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options that say something: pip passes over empty ones."""
    return {name: value for name, value in options.items() if value}


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _basename() -> str:
    return "pip.ini" if sys.platform == "win32" else "pip.conf"


def _files_of_the_machine(environ: Mapping[str, str]) -> Iterator[Path]:
    if sys.platform == "win32":
        yield Path(environ.get("PROGRAMDATA", r"C:\ProgramData"), "pip", "pip.ini")
    elif sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    else:
        for folder in (environ.get("XDG_CONFIG_DIRS", "").strip() or "/etc/xdg").split(os.pathsep):
            yield Path(folder).expanduser() / "pip" / "pip.conf"
        yield Path("/etc/pip.conf")


def _files_of_the_user(environ: Mapping[str, str]) -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises where there is none
    yield home / ("pip" if sys.platform == "win32" else ".pip") / _basename()
    if sys.platform == "win32":
        yield Path(environ.get("APPDATA", home / "AppData" / "Roaming"), "pip", "pip.ini")
        return
    support = home / "Library" / "Application Support" / "pip"
    if sys.platform == "darwin" and support.is_dir():
        yield support / "pip.conf"
    elif sys.platform == "darwin":
        yield home / ".config" / "pip" / "pip.conf"
    else:
        given = environ.get("XDG_CONFIG_HOME", "").strip()
        yield (Path(given).expanduser() if given else home / ".config") / "pip" / "pip.conf"


def _read(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the sections of one file, none if it is not there. Raises UsageError."""
    parser = configparser.RawConfigParser()
    try:
        data = path.read_bytes()
    except OSError:
        # Missing, a folder, or another user's: pip goes on without it, too.
        return {}
    try:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode(locale.getpreferredencoding(False))
        parser.read_string(text, source=str(path))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UsageError(
            "pip's configuration cannot be read",
            why=f"{path}: {' '.join(str(error).split())}",
            next_step=f"correct or remove {path}",
        ) from error
    return {
        section: {_normalized(name): value for name, value in parser.items(section)}
        for section in parser.sections()
    }
