"""Root file systems made of Debian's packages, for another processor or from another release.

mmdebstrap downloads the packages, whose signatures apt checks, and unpacks them below a folder of
ours. What this machine has installed, its lists of packages and its sources are read at most.
"""

from __future__ import annotations

import hashlib
import platform
import posixpath
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from bundler.atomic import publish, stage_beside
from bundler.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOOL = "mmdebstrap"
# Another distribution's apt knows the keys of that distribution alone.
KEYS = "debian-archive-keyring"
KEYRING = Path(f"/usr/share/keyrings/{KEYS}.gpg")
LISTING = "packages.txt"
# A mirror may be a snapshot: its signatures are checked, its date is not.
APT_OPTIONS = ('Acquire::Check-Valid-Until "false"', 'Acquire::http::Timeout "30"')
# Name, version and sha256 of everything that was unpacked: a shell's words, $1 is the root.
LIST_PACKAGES = (
    'cd "$1/var/cache/apt/archives"; '
    "for deb in *.deb; do "
    'echo "$(dpkg-deb --show --showformat="\\${Package} \\${Version}" "$deb")'
    ' $(sha256sum "$deb" | cut -d" " -f1)"; '
    f'done >"$1/{LISTING}"'
)
# One line of a sources.list: type, options, address, suite, components (sources.list(5)).
_ONE_LINE = re.compile(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)")
_FIELD = re.compile(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Packages of a Debian release for an architecture, as Debian spells it.

    `kept` says what is wanted of them and of all they depend on: files, and folders, which end in
    a slash.
    """

    suite: str
    architecture: str
    names: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name of the folder that holds them: another set has another."""
        key = hashlib.sha256("\0".join([*self.names, "", *self.kept]).encode()).hexdigest()
        return f"{self.suite}-{self.architecture}-{key[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianRoot:
    """Unpacked packages: their files below `path`, and the version of each by name."""

    path: Path
    versions: Mapping[str, str]


def python(architecture: str) -> Packages:
    """Return what a CPython 3.11 for `architecture` is made of, the one that has its version first.

    bookworm is the release of Debian that has this CPython.
    """
    return Packages(
        suite="bookworm",
        architecture=architecture,
        names=("python3.11-minimal", "libpython3.11-stdlib", "libgcc-s1", "libstdc++6"),
        kept=(
            *("lib/", "usr/lib/", "usr/bin/python3.11"),
            "usr/share/doc/python3.11-minimal/copyright",
        ),
    )


def held(packages: Packages, folder: Path) -> DebianRoot | None:
    """Return the packages if they lie unpacked below `folder`."""
    place = folder / packages.folder
    try:
        lines = (place / LISTING).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return DebianRoot(path=place, versions=dict(line.split(" ")[:2] for line in lines))


def unpacked(packages: Packages, folder: Path) -> DebianRoot:
    """Return the packages, unpacked below `folder` unless they lie there already.

    They appear by a rename, whole. Raises UnreachableError, with what is missing on this machine.
    """
    found = held(packages, folder)
    if found is not None:
        return found
    place = folder / packages.folder
    with stage_beside(place) as stage:
        _unpack(packages, stage)
        publish(stage, place)
    return cast("DebianRoot", held(packages, folder))


def _unpack(packages: Packages, stage: Path) -> None:
    if shutil.which(TOOL) is None:
        raise _missing(f"{TOOL} is not installed", f"apt-get install {TOOL}")
    listed = stage.with_name(f"{stage.name}.sources")
    listed.mkdir()
    own = sources(packages.suite)
    trusted = [f"--keyring={KEYRING}"] if own is None else []
    if own is not None:
        (listed / "own.sources").write_text(own, encoding="utf-8")
    elif not KEYRING.is_file():
        raise _missing("nothing here can check their signatures", f"apt-get install {KEYS}")
    command = [
        *(TOOL, "--quiet", "--variant=extract", "--skip=output/dev", "--format=tar"),
        *(f"--architectures={packages.architecture}", f"--include={','.join(packages.names)}"),
        *(f"--aptopt={option}" for option in APT_OPTIONS),
        *trusted,
        *(f"--extract-hook={LIST_PACKAGES}", packages.suite, "-"),
        *([str(listed / "own.sources")] if own is not None else []),
    ]
    with (listed / "log").open("w+b") as log:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        ) as made:
            try:
                _take(cast("IO[bytes]", made.stdout), stage, (*packages.kept, LISTING))
            except tarfile.TarError:
                made.kill()
        log.seek(0)
        said = log.read().decode(errors="replace").splitlines()
    if made.returncode or not (stage / LISTING).is_file():
        errors = [line for line in said if line.startswith("E:")] or said[-1:]
        raise _missing(
            "; ".join(errors) or f"{TOOL} ended with {made.returncode}",
            "check apt's sources and the network",
        )


def _take(stream: IO[bytes], root: Path, kept: tuple[str, ...]) -> None:
    """Write what is kept of the tar in `stream` below `root`; links become copies."""
    folders = tuple(name for name in kept if name.endswith("/"))
    links: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            path = posixpath.normpath(member.name)
            if not (path in kept or path.startswith(folders)):
                continue
            if member.issym():
                links[path] = posixpath.join(posixpath.dirname(path), member.linkname)
            elif member.islnk():
                links[path] = member.linkname
            elif member.isfile():
                _write(root / path, cast("IO[bytes]", tar.extractfile(member)), member.mode)
    for path in links:
        source = root / _followed(path, links)
        if source.is_file():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, root / path)


def _write(path: Path, content: IO[bytes], mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        shutil.copyfileobj(content, stream)
    path.chmod(0o755 if mode & 0o100 else 0o644)


def _followed(path: str, links: Mapping[str, str]) -> str:
    """Return where a link leads in the end, inside of the root."""
    for _ in links:
        if path not in links:
            break
        path = posixpath.normpath(f"/{links[path]}").lstrip("/")
    return path


def sources(suite: str, *, etc: Path = Path("/etc/apt")) -> str | None:
    """Return apt's sources for `suite`, made of this machine's own; None if it has none of Debian.

    A machine with another release of Debian names mirrors that have `suite` as well: there the
    suite is put in the place of its own. Anything but Debian's main archive is left out.
    """
    entries = [entry for entry in _entries(etc) if "main" in entry.get("Components", "").split()]
    own = [
        {**entry, "Suites": " ".join(suites)}
        for entry in entries
        if (suites := [s for s in _suites(entry) if s.partition("-")[0] == suite])
    ]
    if not own:
        codename = _codename()
        own = [{**e, "Suites": suite} for e in entries if codename in _suites(e)]
    return "\n".join(_stanza(entry) for entry in own) or None


def _suites(entry: Mapping[str, str]) -> list[str]:
    return entry.get("Suites", "").split()


def _codename() -> str:
    try:
        facts = platform.freedesktop_os_release()
    except OSError:
        return ""
    return facts.get("VERSION_CODENAME", "") if facts.get("ID") == "debian" else ""


def _entries(etc: Path) -> Iterator[dict[str, str]]:
    """Yield every enabled source of packages, as the fields that deb822 has for it."""
    for path in sorted(etc.glob("sources.list.d/*.sources")):
        text = re.sub(r"^#.*\n?", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for stanza in re.split(r"\n\s*\n", text):
            fields = {name.title(): value.strip(" ") for name, value in _FIELD.findall(stanza)}
            fields = {("URIs" if name == "Uris" else name): v for name, v in fields.items()}
            if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "") != "no":
                yield fields
    for path in [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for line in text.splitlines():
            if found := _ONE_LINE.fullmatch(line.partition("#")[0].strip()):
                options, address, suite, components = found.groups(default="")
                pairs = (option.partition("=")[::2] for option in options.split())
                yield {
                    **{name.title(): value for name, value in pairs},
                    "URIs": address,
                    "Suites": suite,
                    "Components": components,
                }


def _stanza(entry: Mapping[str, str]) -> str:
    """Return a source as deb822 spells it; for which architecture, the command line says."""
    wanted = ("URIs", "Suites", "Components", "Signed-By", "Trusted")
    lines = [f"{name}: {entry[name].strip()}" for name in wanted if entry.get(name)]
    return "\n".join(["Types: deb", *lines, ""])


def _missing(why: str, next_step: str) -> UnreachableError:
    return UnreachableError(
        "Debian's packages are not available here", why=why, next_step=next_step
    )
