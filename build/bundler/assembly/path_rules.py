"""Which paths a bundle may have: those of archives that come in, those of a tree that goes out.

Safety holds for every member of an archive: nothing absolute, nothing that climbs, no device, no
set-id bit, no more bytes than the limits. Portability holds for what is kept: the tree must mean
the same on Linux, macOS and Windows, so no two paths that differ in case alone and no name that
Windows reserves.
"""

from __future__ import annotations

import importlib
import os
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from bundler.assembly.tree import files_of
from bundler.errors import PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

KEY = r"SYSTEM\CurrentControlSet\Control\FileSystem"
LONG_PATHS = "LongPathsEnabled"
LONGEST_FILE = 259
LONGEST_FOLDER = 247
SET_ID_BITS = 0o6000
LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 4096
DEEPEST = 100
SHOWN_CHARS = 160
# A few megabytes of zeros are data; the ratio says something only above them.
RATIO_COUNTS_FROM_BYTES = 8 << 20

DRIVE = re.compile(r"[A-Za-z]:")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
NOT_ON_WINDOWS = re.compile(r'[<>:"|?*\\]')
RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)", re.IGNORECASE
)


MemberKind = Literal["file", "folder", "symlink", "hard link", "device, pipe or sparse file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """How much an archive may hold: members, bytes in one, bytes in all, unpacked over packed.

    `names` are the files and folders that are made of it.
    """

    members: int = 200_000
    names: int = 400_000
    member_bytes: int = 4 << 30
    total_bytes: int = 12 << 30
    ratio: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry as the archive states it: raw name, kind, size in bytes, mode, raw link text."""

    name: str
    kind: MemberKind
    size: int = 0
    mode: int = 0o644
    link: str = ""


def keep_all(_: str) -> bool:
    """Keep every path."""
    return True


class Spellings:
    """Paths with their folders, by what a Mac or Windows takes for one name."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], tuple[int, str, bool]] = {}

    def __len__(self) -> int:
        """Return how many files and folders there are."""
        return len(self._known)

    def clash(self, path: str) -> tuple[str, str] | None:
        """Remember the file `path`; return what of it clashes, and with what.

        Names clash that differ by case alone, or by how Unicode spells a letter. Each is kept once,
        below the number of its folder: whole paths of many folders would fill memory.
        """
        folder, parts = 0, path.split("/")
        for depth, part in enumerate(parts, 1):
            is_file = depth == len(parts)
            folded = unicodedata.normalize("NFC", part).casefold()
            new = (len(self._known) + 1, part, is_file)
            number, name, was_file = self._known.setdefault((folder, folded), new)
            if (name, was_file) != (part, is_file):
                above = parts[: depth - 1]
                return "/".join([*above, part]), "/".join([*above, name])
            folder = number
        return None


@dataclass(slots=True, kw_only=True)
class MemberCheck:
    """The check of one archive: admits its members one by one, and remembers them.

    `strip` is how many leading folders are taken off, all members sharing them; `keep` says of a
    stripped path whether it is wanted; `packed_bytes` is the archive's own size.
    """

    archive: str
    limits: ArchiveLimits
    packed_bytes: int
    strip: int = 0
    keep: Callable[[str], bool] = keep_all
    members: int = 0
    total_bytes: int = 0
    top: tuple[str, ...] = ()
    spellings: Spellings = field(default_factory=Spellings)
    claimed: set[str] = field(default_factory=set)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise the PolicyError that names the member."""
        shown = name if len(name) <= SHOWN_CHARS else f"{name[:SHOWN_CHARS]}..."
        raise PolicyError(
            f"{self.archive} is not unpacked because of its member {shown!r}",
            why=why,
            next_step="take the artifact from another source, or lock another release of it",
        )

    def admit(self, member: Member) -> str:
        """Return the path of `member` below the destination, "" for a folder that is stripped.

        Raises PolicyError.
        """
        self.members += 1
        if self.members > self.limits.members:
            self.refuse(member.name, f"an archive may have {self.limits.members} members")
        if member.kind == "device, pipe or sparse file":
            self.refuse(member.name, f"it is a {member.kind}")
        if member.mode & SET_ID_BITS:
            self.refuse(member.name, f"it has a set-id bit (mode {member.mode & 0o7777:04o})")
        path = self._stripped(member)
        self.weigh(member.name, member.size)
        return path

    def weigh(self, name: str, size: int) -> None:
        """Count `size` bytes that `name` will take. Raises PolicyError."""
        if not 0 <= size <= self.limits.member_bytes:
            self.refuse(name, f"its size is {size}, at most {self.limits.member_bytes} is allowed")
        self.total_bytes += size
        if self.total_bytes > self.limits.total_bytes:
            self.refuse(name, f"with it the archive holds over {self.limits.total_bytes} bytes")
        self.compare(name, self.total_bytes, self.packed_bytes)

    def compare(self, name: str, size: int, packed: int) -> None:
        """Refuse `size` bytes that came out of far fewer. Raises PolicyError."""
        if size > RATIO_COUNTS_FROM_BYTES and size > self.limits.ratio * max(packed, 1):
            self.refuse(name, f"it unpacks to over {self.limits.ratio} times what it is packed in")

    def claim(self, name: str, path: str) -> None:
        """Reserve `path` for a file that will be written. Raises PolicyError."""
        if fault := next(filter(None, map(unportable, path.split("/"))), None):
            self.refuse(name, fault)
        if clash := self.spellings.clash(path):
            place, other = clash
            if place == other:
                self.refuse(name, f"{place!r} would be a file and a folder")
            self.refuse(name, f"it and {other!r} are one path on file systems that ignore case")
        if len(self.spellings) > self.limits.names:
            self.refuse(name, f"with it there are over {self.limits.names} files and folders")
        if path in self.claimed:
            self.refuse(name, f"{path!r} is there twice")
        self.claimed.add(path)

    def target(self, member: Member) -> str:
        """Return the path below the destination that a link means. Raises PolicyError."""
        if not member.link:
            self.refuse(member.name, "it is a link to nothing")
        if len(member.link) > LONGEST_PATH_BYTES:
            self.refuse(member.name, "its link is too long")
        if member.kind == "hard link":
            return self._stripped(Member(name=member.link, kind="file"), said_by=member.name)
        if member.link.startswith("/") or DRIVE.match(member.link) or "\\" in member.link:
            self.refuse(member.name, f"it links to {member.link!r}, outside the archive")
        parts = self._safe_parts(member.name, member.name)[:-1]
        for part in member.link.split("/"):
            if part == "..":
                if len(parts) <= self.strip:
                    self.refuse(member.name, f"it links to {member.link!r}, outside the archive")
                parts.pop()
            elif part not in {"", "."}:
                parts.append(part)
        return self._stripped(Member(name="/".join(parts), kind="folder"), said_by=member.name)

    def _stripped(self, member: Member, *, said_by: str | None = None) -> str:
        """Return the name of `member` without its leading folders. Raises PolicyError."""
        named = member.name if said_by is None else said_by
        parts = self._safe_parts(member.name, named)
        top, rest = tuple(parts[: self.strip]), parts[self.strip :]
        if not rest and member.kind != "folder":
            self.refuse(named, "it lies beside the archive's top folder")
        if len(top) == self.strip and self.strip:
            self.top = self.top or top
        if self.top[: len(top)] != top and self.strip:
            self.refuse(named, f"it lies outside the top folder {'/'.join(self.top)!r}")
        return "/".join(rest)

    def _safe_parts(self, name: str, named: str) -> list[str]:
        """Return the folders and the file of `name`. Raises PolicyError."""
        if not name:
            self.refuse(named, "it has an empty name")
        if name.startswith("/") or DRIVE.match(name):
            self.refuse(named, "its path is absolute")
        if "\\" in name or CONTROL.search(name):
            self.refuse(named, "its name has a backslash or a control character")
        parts = name.removesuffix("/").split("/")
        while parts and parts[0] == ".":
            parts.pop(0)
        if ".." in parts:
            self.refuse(named, "its path climbs out of the archive")
        if "" in parts or "." in parts:
            self.refuse(named, "its path has an empty part")
        try:
            sizes = [len(part.encode()) for part in parts]
        except UnicodeEncodeError:
            self.refuse(named, "its name is not UTF-8")
        if any(size > LONGEST_NAME_BYTES for size in sizes) or sum(sizes) > LONGEST_PATH_BYTES:
            self.refuse(named, "its path is too long")
        if len(parts) > DEEPEST:
            self.refuse(named, "its path is too deep")
        return parts


def unportable(part: str) -> str | None:
    """Return why Windows cannot hold a file or folder called `part`, if it cannot."""
    if RESERVED.match(part):
        return f"Windows reserves the name {part!r}"
    if NOT_ON_WINDOWS.search(part) or part.endswith((".", " ")):
        return f"Windows cannot hold a file called {part!r}"
    return None


def check_paths(root: Path, budget: int) -> None:
    """Refuse paths that some target's file system cannot hold, and folders that are empty.

    Raises PolicyError: two names that differ by case alone, a name Windows reserves, a path longer
    than `budget` characters, an empty folder (electron-builder drops those).
    """
    paths = list(files_of(root))
    longest = max(paths, key=len, default="")
    if len(longest) > budget:
        raise PolicyError(
            f"{sum(len(path) > budget for path in paths)} paths are too long, up to {longest}",
            why=f"it has {len(longest)} characters; the recipe allows {budget}, for Windows' sake",
        )
    check_collisions(paths)
    for path in paths:
        if fault := next(filter(None, map(unportable, path.split("/"))), None):
            raise PolicyError(f"{path} cannot exist on Windows", why=fault)
    for parent, folders, files in os.walk(root):
        if not folders and not files and parent != str(root):
            raise PolicyError(f"{os.path.relpath(parent, root)} is an empty folder")


def check_collisions(paths: Iterable[str]) -> None:
    """Refuse names that are one name on a Mac or on Windows. Raises PolicyError."""
    seen = Spellings()
    for path in paths:
        if clash := seen.clash(path):
            raise PolicyError(
                f"{clash[0]} and {clash[1]} differ by case alone",
                why="some file systems take them for one name",
            )


def windows_registry() -> Any:  # noqa: ANN401 - a module that other systems do not have
    """Return Windows' registry, the module winreg; None on other systems."""
    return importlib.import_module("winreg") if os.name == "nt" else None


def has_long_paths(winreg: Any) -> bool:  # noqa: ANN401 - as above
    """Return whether paths may be longer; a registry that does not say so says no."""
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, KEY) as key:
            value, _ = winreg.QueryValueEx(key, LONG_PATHS)
    except OSError:
        return False
    return bool(value == 1)


def require_room(folder: Path, paths: Iterable[str], winreg: Any) -> None:  # noqa: ANN401 - as above
    """Raise UsageError if one of `paths`, below `folder`, is too long for this Windows."""
    head = f"{folder}/"
    beyond = [f"{head}{path}" for path in paths if _is_beyond(f"{head}{path}")]
    if not beyond or has_long_paths(winreg):
        return
    longest = max(beyond, key=len)
    raise UsageError(
        f"{len(beyond)} paths would be longer than Windows allows on this machine",
        why=f"{longest} has {len(longest)} characters; without long paths a file's may have "
        f"{LONGEST_FILE}, a folder's {LONGEST_FOLDER}",
        next_step=rf"as administrator: reg add HKLM\{KEY} /v {LONG_PATHS} /t REG_DWORD /d 1 /f"
        "\n        then open a new terminal; or move the checkout to a shorter folder",
    )


def _is_beyond(path: str) -> bool:
    return _units(path) > LONGEST_FILE or _units(path.rpartition("/")[0]) > LONGEST_FOLDER


def _units(text: str) -> int:
    """Return the length as Windows counts it, in units of UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
