"""How a wheel's files are read and checked, and how they are put into site-packages."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from installer.destinations import WheelDestination
from installer.records import Hash, RecordEntry
from installer.sources import WheelFile

from bundler.errors import IntegrityError, PolicyError
from bundler.files.modes import EXECUTABLE, PLAIN

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import BinaryIO

    from installer.scripts import ScriptSection
    from installer.sources import WheelContentElement
    from installer.utils import Scheme

    from bundler.targets import Target

CHUNK_BYTES = 1 << 20
# What a bundle never holds, wherever a wheel carries it.
SCHEMES_LEFT_OUT = frozenset({"scripts", "headers"})
SCRIPT_FOLDERS = ("bin/", "Scripts/")
METADATA_LEFT_OUT = frozenset(
    {"direct_url.json", "INSTALLER", "REQUESTED", "RECORD.jws", "RECORD.p7s"}
)


class Source(WheelFile):
    """A wheel without console scripts and bytecode, each file checked against RECORD as it is read.

    One pass decompresses, hashes and writes: torch alone would take seconds more in two.
    """

    def __init__(self, archive: zipfile.ZipFile, keep: Callable[[str], bool]) -> None:
        super().__init__(archive)
        self._keep = keep
        self.left_out: list[tuple[str, int]] = []

    @property
    def dist_info_filenames(self) -> list[str]:
        """Hide the entry points from the installer, which would make scripts of them."""
        return [name for name in super().dist_info_filenames if name != "entry_points.txt"]

    def get_contents(self) -> Iterator[WheelContentElement]:
        """Yield the members a bundle wants. Raises IntegrityError from a stream's last read."""
        left_out = {f"{self.dist_info_dir}/{name}" for name in METADATA_LEFT_OUT}
        for record, stream, is_executable in super().get_contents():
            path, stated, size = record
            if path in left_out or "__pycache__" in path.split("/"):
                continue
            if not path.startswith(f"{self.dist_info_dir}/") and not self._keep(path):
                self.left_out.append((path, int(size or 0)))
                continue
            checked = _Checked(stream, path, Hash.parse(stated)) if stated else stream
            yield record, cast("BinaryIO", checked), is_executable


class _Checked:
    """A stream that compares its bytes with a hash when they have all been read."""

    def __init__(self, stream: BinaryIO, path: str, stated: Hash) -> None:
        self._stream = stream
        self._path = path
        self._stated = stated
        self._hash = hashlib.new(stated.name)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes. Raises IntegrityError at the end."""
        data = self._stream.read(size)
        self._hash.update(data)
        if not data and base64_digest(self._hash.digest()) != self._stated.value:
            raise IntegrityError(
                f"{self._path} is not the file its wheel's RECORD lists",
                why=f"RECORD says {self._stated}",
                next_step="lock another build or release of the package",
            )
        return data


class Destination(WheelDestination):
    """A site-packages folder that takes no scripts and overwrites nothing.

    What `drop` says of a path in it, `..` included, is neither written nor recorded.
    """

    def __init__(
        self, site_packages: Path, wheel: str, target: Target, drop: Callable[[str], bool]
    ) -> None:
        self._site_packages = site_packages
        self._wheel = wheel
        self._drop = drop
        # From site-packages up to python/, where data files go.
        self._up = "../" * target.site_packages.count("/")
        self._stdlib = f"{target.stdlib.removeprefix('python/')}/".casefold()
        self._shared: set[str] = set()
        self.files: dict[str, int] = {}
        self.modes: dict[str, int] = {}

    def write_script(
        self, name: str, module: str, attr: str, section: ScriptSection
    ) -> RecordEntry:
        """Refuse: the source hides every entry point."""
        raise NotImplementedError

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,
    ) -> RecordEntry:
        """Write one file, hashed on the way; its mode is noted, and given to no file yet.

        Raises IntegrityError, PolicyError, OSError.
        """
        place = PurePosixPath(path).as_posix()
        if scheme == "data":
            if place.casefold().startswith(self._stdlib):
                raise PolicyError(
                    f"{self._wheel} would put {place} into the standard library",
                    why="a wheel's data files may lie beside it, not in it",
                    next_step="leave the package out of pdm.lock",
                )
            if place.startswith(SCRIPT_FOLDERS):
                return RecordEntry(place, None, None)
            place = f"{self._up}{place}"
        elif scheme in SCHEMES_LEFT_OUT:
            return RecordEntry(place, None, None)
        if self._drop(place):
            return RecordEntry(place, None, None)
        file = Path(os.path.normpath(self._site_packages / place))
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = self._copy(stream, file, place)
        self.modes[place] = EXECUTABLE if is_executable else PLAIN
        return RecordEntry(place, Hash("sha256", base64_digest(digest)), self.files[place])

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Write RECORD."""
        del scheme
        entries = {record.path: record for _, record in records if record.path in self.files}
        entries[record_file_path] = RecordEntry(record_file_path, None, None)
        data = record_bytes(entries)
        file = self._site_packages / record_file_path
        with file.open("xb") as stream:
            self.files[record_file_path] = len(data)
            stream.write(data)

    def undo(self) -> None:
        """Remove what was written."""
        for place in self.files.keys() - self._shared:
            file = Path(os.path.normpath(self._site_packages / place))
            file.unlink(missing_ok=True)
            remove_empty(file.parent)

    def _copy(self, stream: BinaryIO, file: Path, place: str) -> bytes:
        """Copy `stream` to the new `file` and return its sha256; an old one must equal it."""
        digest = hashlib.sha256()
        try:
            output = file.open("xb")
        except FileExistsError:
            data = b"".join(iter(lambda: stream.read(CHUNK_BYTES), b""))
            if not file.is_file() or file.read_bytes() != data:
                raise PolicyError(
                    f"{self._wheel} would overwrite {place}",
                    why="another wheel or the runtime brought a different file of that name",
                    next_step="leave one of the two packages out of pdm.lock",
                ) from None
            if place not in self.files:
                self._shared.add(place)
                self.files[place] = len(data)
            return hashlib.sha256(data).digest()
        with output:
            self.files[place] = 0
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                output.write(chunk)
                self.files[place] += len(chunk)
        return digest.digest()


def base64_digest(digest: bytes) -> str:
    """Return `digest` as RECORD spells it."""
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def record_bytes(entries: Mapping[str, RecordEntry]) -> bytes:
    """Return a RECORD file, sorted by path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(entries[path].to_row() for path in sorted(entries))
    return text.getvalue().encode()


def remove_empty(folder: Path) -> None:
    """Remove `folder` and those above it as long as they are empty."""
    with contextlib.suppress(OSError):
        while True:
            folder.rmdir()
            folder = folder.parent
