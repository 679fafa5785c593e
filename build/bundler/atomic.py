"""Files and folders that appear whole or not at all, with modes that no umask changes.

A file is written beside its place, by its writer alone, hashed as it grows, synced and renamed when
whole. Windows refuses a rename for a moment while a virus scanner holds what was just written
(errors 5, access denied, and 32, sharing violation), so it is tried again there; the tests simulate
what it refuses. FAT and Windows keep no executable bit: a disk is given modes and dates as far as
it keeps them.

A folder is filled beside its place, too. Its name holds the place's, so that people and other runs
see what it belongs to. Windows, where a path has 259 characters, gets a short one: of the mark a
letter, of the place's name a digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bundler.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import FileIO
    from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed: that serves as the lock.
    fcntl = None  # type: ignore[assignment]

IS_WINDOWS = os.name == "nt"

# Places at which a build may die, so that tests can make it die exactly there.
CHECKPOINTS = (
    "store.partial",
    "store.commit",
    "assemble.staged",
    "assemble.component",
    "assemble.merged",
    "assemble.manifest",
    "assemble.aside",
    "assemble.published",
    "archive.written",
)

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> None:
    """Call `listener` with the name of every checkpoint that is reached from now on."""
    _listeners.append(listener)


def reach(name: str) -> None:
    """Say that the build has come to the checkpoint `name`."""
    for listener in _listeners:
        listener(name)


PLAIN = 0o644
EXECUTABLE = 0o755
FOLDER = 0o755
READ_ONLY = 0o444
CHUNK_BYTES = 1 << 20
ABANDONED_AFTER_S = 24 * 60 * 60
# Access denied and sharing violation, as Windows numbers them.
_HELD = (5, 32)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def disk_error(error: OSError, at: Path, *, purpose: str, needed: int | None = None) -> DiskError:
    """Return `error` as the failure people see; `needed` is how many bytes were still to come."""
    if getattr(error, "winerror", None) in _HELD:
        return DiskError(
            f"{purpose} cannot be written",
            why=f"{error.strerror} at {at}, for seconds: another program has a file there open, or "
            "this user has no right to write",
            next_step="end programs that run from there (a service, an editor), let the virus "
            "scanner finish, and run the same command again",
        )
    if error.errno not in _FULL:
        return DiskError(
            f"{purpose} cannot be written",
            why=f"{error.strerror} at {at}",
            next_step="make that folder writable for this user, or choose another place",
        )
    why = f"{free_bytes(at)} bytes are free at {at}"
    if needed is not None:
        why = f"{needed} bytes are needed, {why}"
    return DiskError(
        f"the disk is full: no room for {purpose}",
        why=why,
        next_step="free some space there and run the same command again; nothing verified is lost",
    )


@contextlib.contextmanager
def disk_errors(at: Path, *, purpose: str, needed: int | None = None) -> Iterator[None]:
    """Turn an OSError of the block into what `disk_error` makes of it."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, at, purpose=purpose, needed=needed) from error


def require_space(at: Path, needed: int, *, purpose: str) -> None:
    """Raise DiskError unless `needed` bytes may still be written below `at`."""
    if needed > free_bytes(at):
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise disk_error(full, at, purpose=purpose, needed=needed)


def free_bytes(at: Path) -> int:
    """Return how many bytes may still be written below `at`, which need not exist yet.

    Raises DiskError for a drive of Windows that is not there.
    """
    while not at.exists():
        if at == at.parent:
            none = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            raise disk_error(none, at, purpose="anything")
        at = at.parent
    return shutil.disk_usage(at).free


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last through a power cut, where the system lets us."""
    if IS_WINDOWS:
        return
    # A folder may let us make names in it and not be read itself.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Partial:
    """A new file in `folder` for one writer, with the sha256 of what is in it.

    Its name is random and its bytes come from one process only, so that two builders never share
    an inode and no lock is needed for what is published to be right. The lock held on it says no
    more than "my writer lives": `abandoned` asks for it before anything is swept. Where locks do
    not work a living writer may lose its name, never its bytes: `publish` writes them out again.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        """Create `folder`/`stem`.RANDOM. Raises DiskError."""
        self._folder = folder
        self._stem = stem
        with disk_errors(folder, purpose=stem.removeprefix(".")):
            self.path, self._stream = self._create()
        self._hash = hashlib.sha256()
        self.offset = 0

    def _create(self) -> tuple[Path, FileIO]:
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._stem}.{secrets.token_hex(8)}"
            stream = path.open("xb+", buffering=0)
            # A sweeper may have come between the two calls: then the file is no longer ours.
            if try_lock(stream) is not False and os.fstat(stream.fileno()).st_nlink:
                return path, stream
            stream.close()

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append `data`. Raises OSError."""
        view = memoryview(data)
        while view:
            count = self._stream.write(view)
            self._hash.update(view[:count])
            self.offset += count
            view = view[count:]
        reach("store.partial")

    def restart(self) -> None:
        """Forget everything written so far."""
        self._stream.seek(0)
        self._stream.truncate()
        self._hash = hashlib.sha256()
        self.offset = 0

    def adopt(self, leftover: Path) -> None:
        """Begin with the bytes of `leftover`, read anew, as far as they can be had.

        They are copied: if their writer lives after all, no file has two writers. Without room
        for a copy the work begins anew.
        """
        with contextlib.suppress(OSError), leftover.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size < free_bytes(self._folder):
                while chunk := stream.read(CHUNK_BYTES):
                    self.write(chunk)

    def sync(self) -> None:
        """Make the bytes so far last through a power cut. Raises OSError."""
        descriptor = self._stream.fileno()
        if hasattr(fcntl, "F_FULLFSYNC"):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)

    def publish(self, final: Path, mode: int = READ_ONLY) -> None:
        """Give the file its final name: synced, of `mode`, all or nothing. Raises OSError.

        A crash before the rename leaves a partial file to sweep, one after it leaves `final`
        whole. If another process publishes the same content first, either copy may stay.
        """
        while True:
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._rename(final, mode)
            except FileNotFoundError:
                if self.path.exists() or self._stream.closed:
                    raise
                self._write_again()
            else:
                break
        self._stream.close()
        sync_folder(final.parent)
        sync_folder(final.parent.parent)

    def _rename(self, final: Path, mode: int) -> None:
        self.sync()
        reach("store.commit")
        if IS_WINDOWS:
            # An open file cannot be renamed there, nor a read-only one replaced.
            self._stream.close()
            if final.exists():
                set_mode(final, PLAIN)
            replace(self.path, final)
            set_mode(final, mode)
        else:
            set_mode(self._stream.fileno(), mode)
            replace(self.path, final)

    def _write_again(self) -> None:
        """Copy the bytes, whose name a sweeper removed, under a new name."""
        nameless = self._stream
        self.path, self._stream = self._create()
        self.offset = 0
        self._hash = hashlib.sha256()
        nameless.seek(0)
        while chunk := nameless.read(CHUNK_BYTES):
            self.write(chunk)
        nameless.close()

    def close(self, *, keep: bool = False) -> None:
        """Let go of the file; unless `keep`, remove it."""
        self._stream.close()
        if not keep:
            with contextlib.suppress(OSError):
                self.path.unlink()


def try_lock(stream: FileIO | int) -> bool | None:
    """Return whether the lock on a file or folder is ours now; None where nothing can tell."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def abandoned(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """Yield the files in `folder` that no living process writes, the longest first.

    Where locks do not work, a file counts as abandoned when it was last written a day ago.
    """
    with contextlib.suppress(OSError):
        sizes = {path: path.stat().st_size for path in folder.glob(pattern)}
        for path in sorted(sizes, key=lambda path: (-sizes[path], path.name)):
            with contextlib.suppress(OSError), path.open("rb+", buffering=0) as stream:
                owned = try_lock(stream)
                age_s = time.time() - os.fstat(stream.fileno()).st_mtime
                if owned or (owned is None and age_s > ABANDONED_AFTER_S):
                    if fcntl is None:
                        stream.close()  # Windows removes no open file
                    yield path


@contextlib.contextmanager
def whole(output: Path) -> Iterator[BinaryIO]:
    """Give a stream whose bytes are at `output` once the block has ended, with mode 0644.

    If the block raises, nothing changed. A crash leaves the old file or the new one, and perhaps a
    hidden one beside it, which the next run sweeps. Raises DiskError.
    """
    with disk_errors(output.parent, purpose=output.name), _fresh(output) as partial:
        yield cast("BinaryIO", partial)
        partial.sync()
        reach("archive.written")
        partial.publish(output, PLAIN)


@contextlib.contextmanager
def _fresh(final: Path) -> Iterator[Partial]:
    """Give a hidden file beside `final`; those of dead writers are swept. Raises DiskError."""
    for leftover in abandoned(final.parent, f".{escape(final.name)}.*"):
        leftover.unlink(missing_ok=True)
    partial = Partial(final.parent, f".{final.name}")
    try:
        yield partial
    finally:
        partial.close(keep=False)


def replace_files(texts: Mapping[Path, str]) -> None:
    """Make every file hold its text, in UTF-8 with plain line ends. Raises DiskError.

    A full disk or an error while writing changes nothing. A crash leaves each file old or new and
    never a part; between two renames the first may be new and the next one still old, so name last
    the file that holds the others' hashes: then a second run repairs it.
    """
    with contextlib.ExitStack() as stack:
        written: dict[Path, Partial] = {}
        for path, text in texts.items():
            data = text.encode()
            with disk_errors(path, purpose=path.name, needed=len(data)):
                written[path] = stack.enter_context(_fresh(path))
                written[path].write(data)
                written[path].sync()
        for path, partial in written.items():
            with disk_errors(path, purpose=path.name):
                partial.publish(path, PLAIN)


# Seconds between two tries, ten in all.
PAUSES: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.75, 1, 1.5, 2, 2, 2) if IS_WINDOWS else ()


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target`, which Windows wants to be free. Raises OSError."""
    _patiently(lambda: source.rename(target))


def replace(source: Path, target: Path) -> None:
    """Give the file `source` the name `target`, and take a file's place there. Raises OSError."""
    _patiently(lambda: source.replace(target))


def remove(path: Path) -> None:
    """Remove the file at `path`, if it is there. Raises OSError.

    Windows removes no file that is read-only.
    """
    if IS_WINDOWS:
        with contextlib.suppress(FileNotFoundError):
            set_mode(path, PLAIN)
    path.unlink(missing_ok=True)


def _patiently(act: Callable[[], object]) -> None:
    for pause_s in PAUSES:
        with contextlib.suppress(PermissionError):
            act()
            return
        time.sleep(pause_s)
    act()


UNSUPPORTED = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def set_mode(path: Path | str | int, mode: int) -> None:
    """Give the file or folder at `path`, or an open file, a mode, where its file system has any."""
    with _if_supported():
        os.chmod(path, mode)  # noqa: PTH101 - a bundle has 20,000 files


def set_date(path: Path | str, epoch: int) -> None:
    """Give the file or folder at `path` a date in seconds since 1970, where we may set one."""
    with _if_supported():
        os.utime(path, (epoch, epoch))


def keeps_modes(folder: Path) -> bool | None:
    """Return whether files in `folder` keep their executable bit; None if that cannot be tried.

    It is tried with a file that is removed again.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".sidecar-mode-", dir=folder) as file:
            for mode in (PLAIN, EXECUTABLE):
                set_mode(file.name, mode)
                if bool(Path(file.name).stat().st_mode & 0o100) != bool(mode & 0o100):
                    return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def _if_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


MARK = ".sidecar-stage-"
OLD = ".sidecar-old-"
SHORT = {MARK: ".s", OLD: ".o"}
TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})


@contextlib.contextmanager
def stage_beside(destination: Path) -> Iterator[Path]:
    """Give an empty folder on the same file system; it and its kin are gone afterwards.

    What a killed run left beside `destination` is swept first. The folder is locked while its
    process lives, in whatever container that is; the lock says no more than "do not sweep this".
    Kin are folders called like the stage, a dot, and a word; a digit is a word.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    sweep(destination)
    with contextlib.ExitStack() as held:
        stage = _create(destination, held)
        try:
            yield stage
        finally:
            for path in _beside(destination, MARK):
                if _owner(path) == stage:
                    shutil.rmtree(path, ignore_errors=True)


def sweep(destination: Path) -> None:
    """Remove what dead runs left beside `destination`; bring back a bundle that was set aside.

    A run killed between the two renames of `publish` leaves no bundle at its place: the old one
    returns, so that nothing is lost.
    """
    for mark in (OLD, MARK):
        for path in _beside(destination, mark):
            with contextlib.ExitStack() as held:
                if not _is_abandoned(_owner(path), held):
                    continue
                if mark == OLD and not destination.exists():
                    rename(path, destination)
                else:
                    shutil.rmtree(path, ignore_errors=True)


def publish(stage: Path, destination: Path) -> None:
    """Put `stage` in the place of `destination`.

    Two renames: a reader sees the old bundle, for a moment none, then the new one; never a
    mixture. A kill between them is healed by `sweep`; where the second one fails the old bundle
    returns at once. If another run publishes in between, the last one stays. Raises OSError.
    """
    aside: Path | None = None
    with contextlib.ExitStack() as held:
        while True:
            _hold(destination, held)
            moved = _name(destination, OLD)
            try:
                rename(destination, moved)
            except FileNotFoundError:
                pass
            else:
                if aside is not None:
                    shutil.rmtree(aside, ignore_errors=True)
                aside = moved
                reach("assemble.aside")
            try:
                rename(stage, destination)
                break
            except OSError as error:
                if error.errno in TAKEN:
                    continue
                if aside is not None:
                    rename(aside, destination)
                raise
        reach("assemble.published")
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _name(destination: Path, mark: str) -> Path:
    while True:
        random = secrets.token_hex(2 if IS_WINDOWS else 6)
        path = destination.with_name(f"{_head(destination, mark)}-{random}")
        if not path.exists():
            return path


def _head(destination: Path, mark: str) -> str:
    """Return what the names begin with of all that runs for `destination` have beside it."""
    if not IS_WINDOWS:
        return f"{mark}{destination.name}"
    # Names that differ by case are one name there.
    digest = hashlib.sha256(destination.name.casefold().encode("utf-8", "surrogatepass"))
    return f"{SHORT[mark]}{digest.hexdigest()[:6]}"


def _beside(destination: Path, mark: str) -> list[Path]:
    """Return what runs for this very destination, and no other, have beside it."""
    spelled = re.compile(re.escape(f"{_head(destination, mark)}-") + r"[0-9a-f]+(\.\w+)?")
    if not destination.parent.is_dir():
        return []
    return sorted(path for path in destination.parent.iterdir() if spelled.fullmatch(path.name))


def _owner(path: Path) -> Path:
    """Return the stage that `path` is, or is kin of."""
    head, _, tail = path.name.rpartition("-")
    return path.with_name(f"{head}-{tail.partition('.')[0]}")


def _create(destination: Path, held: contextlib.ExitStack) -> Path:
    while True:
        stage = _name(destination, MARK)
        try:
            stage.mkdir()
        except FileExistsError:
            continue
        # A sweeper may have come between the two calls: then the folder is no longer ours.
        if _hold(stage, held) is not False and stage.is_dir():
            return stage


def _is_abandoned(folder: Path, held: contextlib.ExitStack) -> bool:
    """Return whether no living run uses `folder`; where locks do not work, after a day."""
    try:
        age_s = time.time() - folder.stat().st_mtime
    except OSError:
        return True
    owned = _hold(folder, held)
    return age_s > ABANDONED_AFTER_S if owned is None else owned


def _hold(folder: Path, held: contextlib.ExitStack) -> bool | None:
    """Lock `folder` until `held` closes; return whether it is ours, None if nothing can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    held.callback(os.close, descriptor)
    return try_lock(descriptor)
