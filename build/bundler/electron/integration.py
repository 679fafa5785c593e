"""Everything that `python3 build electron` writes for some bundles: the same bytes every time."""

from __future__ import annotations

import bisect
import itertools
import json
import lzma
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.assembly.tree import text_of
from bundler.atomic import EXECUTABLE, PLAIN, replace, set_mode
from bundler.bundle import DOCUMENTS, SERVICE
from bundler.electron.signing import (
    ALLOW_JIT,
    APP_SANDBOX,
    INHERIT,
    Signable,
    entitlements,
    signables,
    signing_table,
)
from bundler.errors import UsageError
from sidecar.manifest import MANIFESTS
from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bundler.bundle import ListedBundle
    from sidecar.manifest import FileEntry

SIGNED = "signed"
README = "README.md"
# What stands in the checkout as it is written: the hooks, and what they use.
FIXED = (
    "builder.mjs",
    "errors.mjs",
    "hooks.mjs",
    "mac-signing.mjs",
    "sign-bundle.sh",
    "signature.mjs",
    "verify-bundle.mjs",
)
# How people think of a bundle; what else there may be follows by name.
FIRST = ("python", SERVICE, "models", MANIFESTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What is written, by path, and what was found on the way."""

    files: Mapping[str, bytes]
    payloads: tuple[Payload, ...]


def place(
    bundles: Sequence[ListedBundle], app: Path, output: Path, *, source: str | None
) -> AppPaths:
    """Return where things lie, seen from the folder `app`.

    `source` is where the bundles will lie when the app is packaged, if not where they are now.
    Raises UsageError for folders that one pattern of electron-builder's macros cannot name.
    """
    suffixes = {bundle.root.name.removeprefix(bundle.manifest.target) for bundle in bundles}
    for bundle in bundles:
        if not bundle.root.name.startswith(bundle.manifest.target):
            raise UsageError(
                f"the folder {bundle.root} is not named by its target",
                why="electron-builder finds bundles by ${os}-${arch}, which is "
                f"{bundle.manifest.target} for this one",
                next_step=f"python3 build assemble --output {bundle.root / bundle.manifest.target}",
            )
    targets = [bundle.manifest.target for bundle in bundles]
    parents = {bundle.root.parent for bundle in bundles}
    if len(suffixes) > 1 or len(parents) > 1 or len(set(targets)) < len(targets):
        raise UsageError(
            "these bundles cannot be one app's",
            why="they must be in one folder, one per target, with names of one pattern",
            next_step="name them TARGET, or TARGET-lean, in one folder",
        )
    if not output.is_relative_to(app):
        raise UsageError(
            f"{output} is outside of the app in {app}",
            why="electron-builder runs no hooks from outside",
            next_step="choose an --output inside the app's folder; --app names that",
        )
    return AppPaths(
        bundles=source or _relative(parents.pop(), app),
        integration=_relative(output, app),
        suffix=suffixes.pop(),
    )


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # they are on two drives of Windows
        return path.absolute().as_posix()


def compose(bundles: Sequence[ListedBundle], place: AppPaths, templates: Path) -> Integration:
    """Return what is written for `bundles`. Raises VerificationError for one that was altered."""
    bundles = sorted(bundles, key=lambda bundle: bundle.manifest.target)
    native = {one.manifest.target: signables(one) for one in bundles}
    weighed = tuple(map(weigh_payload, bundles))
    made_for = ", ".join(
        f"{one.manifest.target} {one.manifest.version} ({one.manifest.plan[:12]})"
        for one in bundles
    )
    files = {name: text_of(templates / name) for name in FIXED}
    files["electron-builder.yml"] = render_fragment(
        place, top_names(bundles), made_for=made_for
    ).encode()
    mac = [one for target, found in native.items() if target.startswith("mac-") for one in found]
    # V8 compiles as it runs; of Python only a library that writes code needs a right.
    own = [ALLOW_JIT] if any(one.writes_code for one in mac) else []
    files |= {
        "entitlements.app.plist": entitlements(ALLOW_JIT),
        "entitlements.app.no-team.plist": entitlements(ALLOW_JIT, has_team=False),
        "entitlements.python.plist": entitlements(*own),
        "entitlements.python.no-team.plist": entitlements(*own, has_team=False),
        # In an app of the Mac App Store a program shares the sandbox of the app that starts it.
        "entitlements.python.mas.plist": entitlements(*own, APP_SANDBOX, INHERIT),
    }
    for target, found in native.items():
        if found:
            files[f"{SIGNED}/{target}.tsv"] = signing_table(found).encode()
    page = (
        (templates / README)
        .read_text(encoding="utf-8")
        .format(
            made_for=made_for,
            **asdict(place),
            signing="\n".join(f"- {line}" for line in _signing(native)),
            sizes="\n".join(payload_table(weighed)),
            findings="\n".join(f"- {line}" for one in weighed for line in payload_findings(one)),
        )
    )
    files[README] = page.encode()
    return Integration(files=files, payloads=weighed)


def top_names(bundles: Iterable[ListedBundle]) -> tuple[str, ...]:
    """Return the names at the top of the bundles, all of them together, what is read first."""
    names = {MANIFESTS, *(entry.path.partition("/")[0] for one in bundles for entry in one.files)}
    return (*(name for name in FIRST if name in names), *sorted(names - set(FIRST)), *DOCUMENTS)


def _signing(native: Mapping[str, Sequence[Signable]]) -> Iterator[str]:
    """Yield what a person who signs should know."""
    for target, found in native.items():
        programs = [one.path for one in found if one.kind == "program"]
        if target.startswith("mac-"):
            yield (
                f"{target}: {len(found)} Mach-O files, {len(programs)} of them programs. "
                "`sign-bundle.sh` signs them eight at a time, and the hook keeps electron-builder "
                "from signing them again one after the other, and with them every file that looks "
                "binary. Notarisation stays as you have it."
            )
            writers = [one.path.rpartition("/")[2] for one in found if one.writes_code]
            yield (
                f"The Python inside has the right `allow-jit`: {', '.join(writers)} asks for it."
                if writers
                else "The Python inside has no rights: no file of it writes code as it runs."
            )
            yield (
                "Nothing has `disable-library-validation`, since one team signs all; where a "
                "signature has none, ad-hoc or self-signed, app and Python get it. Nothing has "
                "`allow-unsigned-executable-memory`, `allow-dyld-environment-variables` or "
                "`get-task-allow`. This comes from reading the files: it was not run on a Mac."
            )
        if target.startswith("win-"):
            yield (
                f"{target}: with a certificate, electron-builder signs {' and '.join(programs)} as "
                f"it copies; `win.signExts` would add the others of the {len(found)} native files. "
                "The hooks accept a new signature there, and no other change."
            )
        if target.startswith("linux-"):
            yield f"{target}: nothing is signed."


def write(integration: Integration, output: Path) -> None:
    """Write the files into `output`, each whole or not at all; lists of other bundles go.

    Whatever else is in the folder stays.
    """
    (output / SIGNED).mkdir(parents=True, exist_ok=True)
    for name, data in integration.files.items():
        beside = output / f"{name}.new"
        beside.write_bytes(data)
        set_mode(beside, EXECUTABLE if name.endswith(".sh") else PLAIN)
        replace(beside, output / name)
    for path in (output / SIGNED).glob("*.tsv"):
        if f"{SIGNED}/{path.name}" not in integration.files:
            path.unlink()


MACROS = "${os}-${arch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppPaths:
    """Where things lie when the app is packaged, as paths from the app's folder.

    `bundles` is the folder of bundles, `suffix` what stands behind the target in their folders'
    names, `integration` where the fragment itself and its hooks are.
    """

    bundles: str
    integration: str
    suffix: str = ""


def render_fragment(place: AppPaths, names: Iterable[str], *, made_for: str) -> str:
    """Return the fragment as YAML, which copies `names`.

    No entry has a filter, so that nothing is left out, bytecode least.
    """
    own = f"{place.integration}/electron-builder.yml"
    hooks = _quoted(f"./{place.integration}/hooks.mjs")
    folder = f"{place.bundles}/{MACROS}{place.suffix}"
    lines = [
        f"# Made by `python3 build electron` for {made_for}: make it again, do not edit it.",
        f"# Add to your electron-builder.yml:  extends: {own}",
        # An app's own extraResources replace those of a parent at the top, and join these.
        "linux:",
        "  extraResources: &sidecar",
        *(
            f"    - {{ from: {_quoted(f'{folder}/{name}')}, to: {_quoted(name)} }}"
            for name in names
        ),
        "mac:",
        "  extraResources: *sidecar",
        # How a file is signed is the hook's: electron-builder 26 reads `entitlements` and
        # `signIgnore` here, and 27 refuses a configuration that has them.
        f"  sign: {hooks}",
        "win:",
        "  extraResources: *sidecar",
        f"afterPack: {hooks}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return `text` as a YAML scalar: every JSON string is one."""
    return json.dumps(text, ensure_ascii=False)


# makensis is a 32-bit program: what it makes, and what it packs, stays below 2 GiB.
NSIS_BYTES = 2 << 30
# What is left for the app itself, Electron and its own resources; packed, it is about half.
RESERVED_BYTES = 256 << 20
SAMPLE_BYTES = 1 << 20
STEP_BYTES = 24 << 20
FEWEST_SAMPLES = 4
# electron-builder's 7z packs each file by itself, so that updates can be blocks of it.
PRESET = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadPart:
    """A component: its files, its bytes, and about how many of them 7z will make."""

    name: str
    files: int
    size: int
    packed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What one bundle adds to an installer."""

    target: str
    parts: tuple[PayloadPart, ...]

    @property
    def whole(self) -> PayloadPart:
        """All parts together."""
        return PayloadPart(
            name="all",
            files=sum(part.files for part in self.parts),
            size=sum(part.size for part in self.parts),
            packed=sum(part.packed for part in self.parts),
        )


def weigh_payload(bundle: ListedBundle) -> Payload:
    """Return the payload of `bundle`; the packed sizes come from samples of it."""
    return Payload(
        target=bundle.manifest.target,
        parts=tuple(
            PayloadPart(
                name=name,
                files=len(entries),
                size=sum(entry.size for entry in entries),
                packed=_packed(bundle.root, entries),
            )
            for name, entries in bundle.lists.items()
        ),
    )


def _packed(root: Path, entries: Sequence[FileEntry]) -> int:
    """Return about how many bytes the files make, packed each by itself.

    Samples lie at equal distances over all bytes in the order of the paths, so that the same files
    give the same estimate everywhere.
    """
    listed = [entry for entry in sorted(entries, key=lambda entry: entry.path) if entry.size]
    ends = list(itertools.accumulate(entry.size for entry in listed))
    if not ends:
        return 0
    count = max(FEWEST_SAMPLES, ends[-1] // STEP_BYTES)

    def ratio(number: int) -> float:
        at = ends[-1] * (2 * number + 1) // (2 * count)
        index = bisect.bisect_right(ends, at)
        entry = listed[index]
        inside = at - (ends[index] - entry.size)
        with (root / entry.path).open("rb") as stream:
            stream.seek(inside - inside % SAMPLE_BYTES)
            data = stream.read(SAMPLE_BYTES)
        filters = [{"id": lzma.FILTER_LZMA2, "preset": PRESET}]
        return min(1.0, len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters)) / len(data))

    with ThreadPoolExecutor(cores.count()) as pool:
        return round(ends[-1] * sum(pool.map(ratio, range(count))) / count)


def payload_findings(payload: Payload) -> Iterator[str]:
    """Yield the notes on a payload for a maker of installers, the limits first."""
    whole = payload.whole
    largest = max(payload.parts, key=lambda part: (part.packed, part.name))
    share = round(100 * largest.packed / max(whole.packed, 1))
    if whole.packed + RESERVED_BYTES >= NSIS_BYTES:
        yield (
            f"{payload.target}: too large for NSIS: about {_mb(whole.packed)} packed, and the "
            f"app, of at most {_mb(NSIS_BYTES)}; use nsis-web, msi, or the profile lean"
        )
    elif whole.size + RESERVED_BYTES >= NSIS_BYTES:
        yield (
            f"{payload.target}: {_mb(whole.size)} unpacked: `compression: store` and portable "
            f"installers would pass NSIS's limit of {_mb(NSIS_BYTES)}; 7z, the default, does not"
        )
    yield f"{payload.target}: {largest.name} is {share} % of what is packed"


def payload_table(payloads: Sequence[Payload]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| target | component | files | MB installed | MB packed (7z, estimated) |"
    yield "|---|---|---:|---:|---:|"
    for payload in payloads:
        for part in (*payload.parts, payload.whole):
            sizes = f"{part.size / 1e6:,.1f} | {part.packed / 1e6:,.1f}"
            yield f"| {payload.target} | {part.name} | {part.files:,} | {sizes} |"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
