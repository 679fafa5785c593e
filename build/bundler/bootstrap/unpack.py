"""A runtime's archive as a folder, by the standard library alone.

`tarfile`'s own filter came with patch releases that a first Python may not have, and checks more
than matters here: the archive is the locked one, to the bit. So each member is written by hand, and
what no such archive holds is refused.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from bundler.errors import PolicyError


def unpack(archive: Path, folder: Path) -> None:
    """Fill `folder`, which is empty, with what `archive` has in its one top folder.

    Raises PolicyError for a member that would leave the folder or is no file, link or folder;
    OSError and tarfile.TarError.
    """
    with tarfile.open(archive, "r:gz") as stream:
        for member in stream:
            path = _inside(member.name)
            if path is None:
                continue
            if any((folder / parent).is_symlink() for parent in path.parents):
                raise _refusal(member.name)
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                place.mkdir(exist_ok=True)
                continue
            # Two names of terminals differ in case alone, and a Mac's disk takes them for one.
            place.unlink(missing_ok=True)
            if member.issym():
                _require_inside(PurePosixPath(path.parent, member.linkname), member.name)
                place.symlink_to(member.linkname)
            elif member.isreg() or member.islnk():
                # tarfile finds the data of a hard link where it leads to, in the archive.
                with stream.extractfile(member) as source, place.open("wb") as target:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, target)
                place.chmod(0o755 if member.mode & 0o100 else 0o644)
            else:
                raise _refusal(member.name)


def _inside(name: str) -> PurePosixPath | None:
    """Return where a member goes in the folder, None for the top folder itself."""
    path = PurePosixPath(name)
    _require_inside(path, name)
    return PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else None


def _require_inside(path: PurePosixPath, name: str) -> None:
    """Raise PolicyError if `path`, with its dots resolved, is not below where it begins."""
    normal = os.path.normpath(path.as_posix())
    if path.is_absolute() or normal.startswith("..") or "\\" in normal or ":" in normal:
        raise _refusal(name)


def _refusal(name: str) -> PolicyError:
    return PolicyError(
        f"the runtime's archive holds {name!r}", why="no runtime has such a file in its archive"
    )
