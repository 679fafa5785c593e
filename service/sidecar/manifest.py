"""What a bundle says of itself: its components, and every file in them.

Standard library only: the service, the builder and the shipped verifier all read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

SCHEMA = 1
BUNDLED_NAME = "embedding_sidecar"
MANIFEST = "manifest.json"
MANIFESTS = "manifests"
CHUNK_BYTES = 1 << 20
MOST_PAPER_BYTES = 64 << 20  # twice what a list of 200,000 files takes
MOST_FILE_BYTES = 1 << 50
MOST_MODE = 0o7777
SLICE_FILES = 64
FOLDER = "a folder"
_NEVER = re.compile(r"[\\:\0\ud800-\udfff]")
_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT
# A pipe that takes a file's place must not be waited for.
_READ = os.O_RDONLY | sum(getattr(os, f"O_{name}", 0) for name in ("BINARY", "NOCTTY", "NONBLOCK"))


_T = TypeVar("_T")
# The plain types of values, as the classes below spell them.
_KINDS = {
    "str": (str,),
    "int": (int,),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "float | None": (float, int, type(None)),
}


def find_bundle(service: Path) -> Path | None:
    """Return the root of the bundle that the folder `service` is part of, or None.

    The name decides as well as the manifest: a bundle that lost its manifest is a damaged one.
    """
    parent = service.parent
    if service.name == BUNDLED_NAME or (parent / MANIFEST).is_file():
        return parent
    return None


class ManifestError(ValueError):
    """The manifest is missing, unreadable, or not the one its digest names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the bundle: POSIX path from the bundle's root, mode, size in bytes, sha256."""

    path: str
    mode: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A set of paths that ships, updates and becomes an image layer together.

    `digest` is the sha256 of the component's own file, manifests/<name>.json; `inputs` is the
    sha256 of the part of the plan that decided it.
    """

    name: str
    digest: str
    inputs: str
    files: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The CPython inside, and how it was had: `standalone` (locked), or a stand-in.

    A stand-in is a copy of the building machine's (`host`) or of Debian's packages (`debian`).
    """

    version: str
    source: str
    executable: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model inside: where its snapshot and its golden vectors lie in the bundle.

    `least_int8` is the least cosine to the golden vectors that its int8 vectors may have, None if
    it has no int8. `aliases` are names that other services have for the same weights. `least_dim`
    is the smallest number of dimensions that its vectors may be cut to, None if they may not.
    """

    name: str
    repository: str
    revision: str
    dim: int
    max_tokens: int
    pooling: str
    snapshot: str
    golden: str | None = None
    least_int8: float | None = None
    aliases: tuple[str, ...] = ()
    least_dim: int | None = None


def names_of(name: str | None, repository: str, aliases: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names that a request may have for a model, the one that it is listed by first.

    Its own, the repository with and without its owner, and its aliases; case makes no difference.
    """
    own = (name,) if name else ()
    short = repository.rpartition("/")[2]
    return tuple(dict.fromkeys((*own, repository, short, *aliases)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The bundle's top file.

    `documents` are the files beside the components, e.g. NOTICES.txt, and `papers` the sha256 of
    what those depend on. `floor` is the oldest system that will do; `unreleasable` says why the
    bundle must not be released, if so.
    """

    plan: str
    papers: str
    target: str
    version: str
    profile: str
    runtime: Runtime
    default_model: str | None
    models: tuple[Model, ...]
    components: tuple[Component, ...]
    documents: tuple[FileEntry, ...] = ()
    floor: Mapping[str, str] = field(default_factory=dict)
    unreleasable: tuple[str, ...] = ()
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One way in which a tree differs from its manifest; `kind` is missing, extra or changed."""

    kind: str
    path: str
    detail: str = ""

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.kind}: {self.path}" + (f" ({self.detail})" if self.detail else "")


def canonical(value: object) -> bytes:
    """Return the one JSON spelling of `value`: sorted keys, no spaces, UTF-8, final newline."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{text}\n".encode()


def encode(manifest: Manifest) -> bytes:
    """Return the bytes of manifest.json."""
    text = json.dumps(asdict(manifest), sort_keys=True, indent=1, ensure_ascii=False)
    return f"{text}\n".encode()


def encode_entries(entries: Iterable[FileEntry]) -> bytes:
    """Return the bytes of manifests/<component>.json: one entry a line, sorted by path."""
    lines = [
        json.dumps([e.path, f"{e.mode:04o}", e.size, e.sha256], ensure_ascii=False)
        for e in sorted(entries, key=lambda entry: entry.path)
    ]
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def decode(data: bytes) -> Manifest:
    """Return the manifest in `data`. Raises ManifestError."""
    try:
        raw: dict[str, Any] = json.loads(data, object_pairs_hook=_object)
        if raw.get("schema") != SCHEMA:
            message = f"the manifest has schema {raw.get('schema')}, this program reads {SCHEMA}"
            raise ManifestError(message)  # noqa: TRY301 - one message for each fault
        raw = {each.name: raw[each.name] for each in fields(Manifest)}
        raw["runtime"] = _typed(Runtime, raw["runtime"])
        kinds = {"models": Model, "components": Component, "documents": FileEntry}
        for one in raw["models"]:
            one["aliases"] = tuple(one.get("aliases", ()))
        for name, kind in kinds.items():
            raw[name] = tuple(_typed(kind, one) for one in raw[name])
        raw["unreleasable"] = tuple(raw["unreleasable"])
        manifest = _typed(Manifest, raw)
        floor = manifest.floor
        aliases = [name for model in manifest.models for name in model.aliases]
        if not _are(str, *manifest.unreleasable, *floor, *floor.values(), *aliases):
            raise TypeError  # noqa: TRY301 - as for every other value
    except ManifestError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(f"the manifest cannot be read ({type(error).__name__})") from error
    for document in manifest.documents:
        _check_entry(document)
    _refuse_shared_names(manifest.models)
    names = [component.name for component in manifest.components]
    for name in names:
        _check_path(f"{MANIFESTS}/{name}.json")
    if len(set(names)) != len(names):
        raise ManifestError("the manifest lists a component twice")
    return manifest


def _refuse_shared_names(models: Iterable[Model]) -> None:
    """Refuse a name that is that of two models. Raises ManifestError."""
    names = [names_of(model.name, model.repository, model.aliases) for model in models]
    called = [name for own in names for name in set(map(str.casefold, own))]
    if len(set(called)) != len(called):
        raise ManifestError("the manifest has one name for two models")


def decode_entries(data: bytes) -> tuple[FileEntry, ...]:
    """Return the entries of one component file; every path stays inside. Raises ManifestError."""
    try:
        entries = tuple(
            FileEntry(path=path, mode=int(mode, 8), size=size, sha256=sha256)
            for path, mode, size, sha256 in json.loads(data)
        )
    except (ValueError, TypeError, RecursionError) as error:
        message = f"a component's file list cannot be read ({type(error).__name__})"
        raise ManifestError(message) from error
    for entry in entries:
        _check_entry(entry)
    return entries


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; one that says a thing twice is refused. Raises ManifestError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ManifestError("the manifest has a key twice")
    return found


def _typed(kind: type[_T], raw: dict[str, Any]) -> _T:
    """Return `raw` as `kind`, whose plain values are of the types it names. Raises TypeError."""
    for each in fields(kind):  # type: ignore[arg-type]
        found = type(raw.get(each.name))
        if found not in _KINDS.get(str(each.type), (found,)):
            raise TypeError(each.name)
    return kind(**raw)


def _are(kind: type, *values: object) -> bool:
    """Return whether all `values` are of the type `kind`, and not of one derived from it."""
    return all(type(value) is kind for value in values)


def _check_entry(entry: FileEntry) -> None:
    """Refuse an entry that is none, or that names a file outside. Raises ManifestError."""
    are_typed = _are(str, entry.path, entry.sha256) and _are(int, entry.mode, entry.size)
    if not (are_typed and 0 <= entry.mode <= MOST_MODE and 0 <= entry.size <= MOST_FILE_BYTES):
        raise ManifestError("a list of files has an entry that cannot be read")
    _check_path(entry.path)


def _check_path(path: str) -> None:
    """Refuse a path that could lead out of a bundle. Raises ManifestError."""
    if not is_inside(path):
        raise ManifestError(f"the manifest names a path outside the bundle: {path!r}")


def is_inside(path: str) -> bool:
    """Return whether a path stays in the folder that it is unpacked into, on every system."""
    parts = path.split("/")
    return all(parts) and ".." not in parts and "." not in parts and not _NEVER.search(path)


def read(root: Path) -> Manifest:
    """Return the manifest of the bundle at `root`. Raises ManifestError."""
    return decode(read_paper(root, MANIFEST))


def read_entries(root: Path, component: Component) -> tuple[FileEntry, ...]:
    """Return the files of `component`, the list's own digest checked. Raises ManifestError."""
    name = f"{MANIFESTS}/{component.name}.json"
    data = read_paper(root, name)
    if hashlib.sha256(data).hexdigest() != component.digest:
        raise ManifestError(f"{name} is not the list that {MANIFEST} names")
    return decode_entries(data)


def read_paper(root: Path, name: str) -> bytes:
    """Return the bytes of the bundle's file `name`; a pipe or a device is never opened.

    Raises ManifestError for all but a regular file of a sensible size.
    """
    path = root / name
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_PAPER_BYTES:
            message = f"{name} is not a regular file, or is over {MOST_PAPER_BYTES} bytes"
            raise ManifestError(message)
        with os.fdopen(os.open(path, _READ), "rb") as stream:
            if os.path.samestat(status, os.fstat(stream.fileno())):
                return stream.read(MOST_PAPER_BYTES)
    except OSError as error:
        raise ManifestError(f"{name} cannot be read: {error.strerror}") from error
    raise ManifestError(f"{name} was replaced while it was read")


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    # Plain calls of the system: a bundle has 20,000 files, and most are small.
    descriptor = os.open(path, _READ)
    try:
        digest = hashlib.sha256()
        while chunk := os.read(descriptor, CHUNK_BYTES):
            digest.update(chunk)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def entry_damage(root: Path, entry: FileEntry, *, with_mode: bool = False) -> Damage | None:
    """Return how the file at `entry.path` differs from `entry`, or None.

    Modes are compared only if asked for: installers widen them, and Windows has none.
    """
    path = f"{root}/{entry.path}"
    try:
        status = os.lstat(path)
    except OSError:
        return Damage(kind="missing", path=entry.path)
    detail = _difference(path, status, entry, with_mode=with_mode)
    return Damage(kind="changed", path=entry.path, detail=detail) if detail else None


def _difference(path: str, status: os.stat_result, entry: FileEntry, *, with_mode: bool) -> str:
    """Return in words how a file that exists differs from `entry`; nothing if it does not."""
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_size != entry.size:
        return f"{status.st_size} bytes instead of {entry.size}"
    try:
        actual = file_sha256(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"
    if actual != entry.sha256:
        return f"sha256 {actual} instead of {entry.sha256}"
    if with_mode and mode != entry.mode:
        return f"mode {mode:04o} instead of {entry.mode:04o}"
    return ""


def damages(
    root: Path,
    entries: Iterable[FileEntry],
    *,
    workers: int = 2,
    with_modes: bool = False,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Iterator[Damage]:
    """Yield how the files under `root` differ from `entries`, in the entries' order.

    Hashing releases the interpreter's lock, so two threads use two cores. `on_bytes` hears how
    many bytes have been checked since it was last called.
    """
    listed = tuple(entries)
    slices = [listed[at : at + SLICE_FILES] for at in range(0, len(listed), SLICE_FILES)]

    def check(part: tuple[FileEntry, ...]) -> list[Damage]:
        found = (entry_damage(root, entry, with_mode=with_modes) for entry in part)
        return [damage for damage in found if damage is not None]

    with ThreadPoolExecutor(max_workers=workers) as pool:
        for part, found in zip(slices, pool.map(check, slices), strict=True):
            on_bytes(sum(entry.size for entry in part))
            yield from found


def strays(root: Path, known: Iterable[str], folder: str = "") -> Iterator[Damage]:
    """Yield every file, link and empty folder below `root`/`folder` that `known` does not list.

    No link is followed. A folder that cannot be listed is `changed`; OSError if it is the first.
    """
    paths = frozenset(known)
    waiting = below(root, folder)
    if folder and not waiting:
        yield Damage(kind="extra", path=folder, detail="empty folder")
    while waiting:
        path, entry = waiting.pop()
        kind = kind_of(entry)
        if kind != FOLDER:
            if path not in paths:
                yield Damage(kind="extra", path=path, detail=kind)
            continue
        try:
            inside = below(root, path)
        except OSError as error:
            yield Damage(kind="changed", path=path, detail=f"cannot be listed: {error.strerror}")
            continue
        if not inside:
            yield Damage(kind="extra", path=path, detail="empty folder")
        waiting += inside


def below(root: Path, folder: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Return what lies in a folder by its path from `root`, the last name first."""
    with os.scandir(f"{root}/{folder}") as listing:
        entries = sorted(listing, key=lambda entry: entry.name, reverse=True)
    return [(f"{folder}/{entry.name}" if folder else entry.name, entry) for entry in entries]


def kind_of(entry: os.DirEntry[str]) -> str:
    """Return in words what `entry` is; nothing if it is a regular file."""
    if entry.is_dir(follow_symlinks=False):
        status = entry.stat(follow_symlinks=False) if os.name == "nt" else None
        is_junction = getattr(status, "st_reparse_tag", 0) == _JUNCTION
        return "a link" if is_junction else FOLDER
    if entry.is_symlink():
        return "a link"
    return "" if entry.is_file(follow_symlinks=False) else "not a regular file"
