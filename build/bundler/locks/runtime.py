"""runtime.lock.toml as data: the CPython of every target, with the hash its archive must have."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit

from bundler.atomic import replace_files
from bundler.digests import Artifact, Digest
from bundler.errors import PolicyError, UnsupportedError, UsageError
from bundler.project import parse_toml, read_text
from bundler.targets import PYTHON, TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bundler.targets import Target

REFRESH = "python3 build lock --runtime"
HEADER = f"Written by `{REFRESH}`. Review it as a diff; never edit it by hand."
FLAVOUR = "install_only_stripped"
KEYS = ("version", "tag", "triple", "flavour", "url", "sha256")
SERIES = ".".join(str(part) for part in PYTHON)
VERSION = re.compile(rf"{re.escape(SERIES)}\.\d+")
TAG = re.compile(r"\d{8}")
PLATFORMS = {"linux": "linux", "mac": "macos", "win": "windows"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSpec:
    """A CPython of python-build-standalone: which one, its archive's bytes, its address.

    `tag` is the release's date, `triple` and `flavour` are the release's own words. `url` serves
    the fetch only; the archive's name and hash are what identifies it, so a mirror changes nothing.
    """

    version: str
    tag: str
    triple: str
    flavour: str
    artifact: Artifact
    url: str
    source: ClassVar[str] = "standalone"

    def address(self, release: str) -> str:
        """Return the archive's address where `release` is the beginning of every release's."""
        _, tag, rest = self.url.partition(f"/{self.tag}/")
        return release.rstrip("/") + tag + rest


def archive_name(*, version: str, tag: str, triple: str, flavour: str) -> str:
    """Return the file name that the release gives this runtime."""
    return f"cpython-{version}+{tag}-{triple}-{flavour}.tar.gz"


def read_lock(path: Path) -> Mapping[str, RuntimeSpec]:
    """Return the locked runtimes by target name. Raises UsageError."""
    return parse_lock(read_text(path, REFRESH))


def parse_lock(text: str) -> Mapping[str, RuntimeSpec]:
    """Return the runtimes written in `text`, by target name. Raises UsageError."""
    document = parse_toml(text, "runtime.lock.toml", REFRESH)
    return {name: _parse_entry(name, entry) for name, entry in document.items()}


def _parse_entry(name: str, entry: object) -> RuntimeSpec:
    if name not in TARGETS:
        raise _refused(name, f"there is no such target; the targets are {', '.join(TARGETS)}")
    if not isinstance(entry, dict):
        raise _refused(name, "it is not a table")
    if missing := [key for key in KEYS if not entry.get(key)]:
        raise _refused(name, f"it lacks {', '.join(missing)}")
    if unknown := sorted(set(entry) - set(KEYS)):
        raise _refused(name, f"it has unknown keys: {', '.join(unknown)}")
    for key in KEYS:
        if not isinstance(entry[key], str):
            raise _refused(name, f"{key} is not a string")
    return _spec(TARGETS[name], **entry)


def _spec(target: Target, *, sha256: str, url: str, **release: str) -> RuntimeSpec:
    """Return the spec once its parts agree with each other and `target`. Raises UsageError."""
    if not VERSION.fullmatch(release["version"]):
        raise _refused(target.name, f"version {release['version']!r} is not a {SERIES} release")
    if not TAG.fullmatch(release["tag"]):
        raise _refused(target.name, f"tag {release['tag']!r} is not a release's date")
    if release["triple"] != target.triple:
        raise _refused(target.name, f"triple {release['triple']!r} is not {target.triple}")
    if release["flavour"] != FLAVOUR:
        raise _refused(target.name, f"flavour {release['flavour']!r} is not {FLAVOUR}")
    name = archive_name(**release)
    try:
        address, digest = urlsplit(url), Digest(sha256=sha256)
    except ValueError as error:
        raise _refused(target.name, str(error)) from error
    if address.scheme != "https" or unquote(address.path).rpartition("/")[2] != name:
        raise _refused(target.name, f"url is not an https address of {name}")
    return RuntimeSpec(artifact=Artifact(name=name, digest=digest), url=url, **release)


def _refused(name: str, why: str) -> UsageError:
    return UsageError(f"runtime.lock.toml: [{name}] cannot be used", why=why, next_step=REFRESH)


def refresh(targets: Iterable[Target]) -> Mapping[str, RuntimeSpec]:
    """Return the newest runtime that every one of `targets` has, by target name; no network.

    The catalogue is the one inside the installed pbs-installer. Raises UnsupportedError (a target
    is not published) and PolicyError (an archive is published without a hash).
    """
    wanted = tuple(targets)
    newest = [_published(target, SERIES)[0] for target in wanted]
    common = min(newest, key=lambda version: int(version.rpartition(".")[2]), default=SERIES)
    return {target.name: _locked(target, *_published(target, common)) for target in wanted}


def _published(target: Target, request: str) -> tuple[str, str, str | None]:
    """Return version, address and hash of the newest archive for `target` that `request` allows."""
    # Importing it reads a large table and the environment, which only a refresh should cost.
    from pbs_installer import get_download_link  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            # It reads its table through a function that Python 3.11 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            found, (url, sha256) = get_download_link(
                request,
                arch=target.triple.partition("-")[0],
                platform=PLATFORMS[target.os],
                implementation="cpython",
                # Not None: that would take a mirror from the environment into the lock.
                base_url="",
            )
    except ValueError as error:
        raise UnsupportedError(
            f"no runtime is published for {target.name}",
            why=str(error),
            next_step="update pbs-installer in pdm.lock, or leave the target out",
        ) from error
    return f"{found.major}.{found.minor}.{found.micro}", url, sha256


def _locked(target: Target, version: str, url: str, sha256: str | None) -> RuntimeSpec:
    if not sha256:
        raise PolicyError(
            f"the runtime for {target.name} has no hash",
            why=f"pbs-installer lists {url} without one, and nothing is used unchecked",
            next_step="update pbs-installer in pdm.lock and lock again",
        )
    tag = unquote(urlsplit(url).path).split("/")[-2]
    try:
        return _spec(
            target,
            version=version,
            tag=tag,
            triple=target.triple,
            flavour=FLAVOUR,
            url=url,
            sha256=sha256,
        )
    except UsageError as error:
        raise UnsupportedError(
            f"the runtime published for {target.name} cannot be used",
            why=error.why,
            next_step="update pbs-installer in pdm.lock and lock again",
        ) from error


def render(runtimes: Mapping[str, RuntimeSpec]) -> str:
    """Return the text of runtime.lock.toml, in the targets' order: a refresh reads as a diff."""
    import tomlkit  # noqa: PLC0415 - the lock is read before it is installed

    document = tomlkit.document()
    document.add(tomlkit.comment(HEADER))
    for name in TARGETS:
        if name not in runtimes:
            continue
        spec = runtimes[name]
        table = tomlkit.table()
        for key in KEYS[:-1]:
            table.add(key, getattr(spec, key))
        table.add("sha256", spec.artifact.digest.sha256)
        document.add(tomlkit.nl())
        document.add(name, table)
    return tomlkit.dumps(document)


def write_lock(path: Path, runtimes: Mapping[str, RuntimeSpec]) -> None:
    """Replace the lock at `path`; a crash leaves the old lock or the new one, never a part."""
    replace_files({path: render(runtimes)})
