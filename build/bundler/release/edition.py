"""Everything that a release consists of, written into one folder, and checked there."""

from __future__ import annotations

import platform
import shutil
import zlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from bundler.archive import PRODUCT, SUFFIX, split_file, write_tar_zst, write_zip
from bundler.assembly.source_tree import text_of
from bundler.atomic import PLAIN, set_mode
from bundler.digests import Digest
from bundler.errors import UsageError, VerificationError
from bundler.images import image
from bundler.images.layers import Layers
from bundler.profiles import label
from bundler.release import verify_sidecar
from bundler.release.statement import Build, render
from sidecar.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bundler.artifacts.store import Store
    from bundler.console import Progress
    from bundler.release.bundles import Bundle
    from sidecar.manifest import Manifest

VERIFIER = Path(verify_sidecar.__file__)
PAPERS = (MANIFEST, "sbom.cdx.json", "NOTICES.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """What is to be released: the bundles, what each image stands on, and the facts around them.

    `bases` are tars of root file systems by target; a Linux bundle without one gets no image.
    Parts have up to `part_bytes` bytes, if archives are to be cut at all.
    """

    bundles: tuple[Bundle, ...]
    bases: Mapping[str, Path]
    epoch: int
    build: Build
    part_bytes: int | None = None

    @property
    def version(self) -> str:
        """The version of everything in it."""
        return self.bundles[0].manifest.version


def machinery() -> dict[str, str]:
    """Return the versions of what decides compressed bytes, beside the builder itself."""
    return {
        "deflate": version("deflate"),
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "zstandard": f"{zstandard.__version__} {'.'.join(map(str, zstandard.ZSTD_VERSION))}",
    }


def write(edition: Edition, folder: Path, store: Store, progress: Progress) -> None:
    """Write every artifact, the statement and SHA256SUMS into the empty `folder`, and check them.

    The same edition gives the same bytes. Raises VerificationError, PolicyError, DiskError.
    """
    for bundle in edition.bundles:
        _archives(bundle, edition, folder, progress)
    _image(edition, folder, store, progress)
    (folder / VERIFIER.name).write_bytes(text_of(VERIFIER))
    digests = {path.name: Digest.of_file(path).sha256 for path in sorted(folder.iterdir())}
    name = f"{PRODUCT}-{edition.version}.provenance.json"
    (folder / name).write_bytes(render(edition.build, digests))
    digests[name] = Digest.of_file(folder / name).sha256
    (folder / verify_sidecar.SUMS).write_bytes(sums(digests))
    for path in folder.iterdir():
        set_mode(path, PLAIN)
    check(folder, progress)


def sums(digests: Mapping[str, str]) -> bytes:
    """Return SHA256SUMS as `sha256sum --check` reads it, sorted by name."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def check(path: Path, progress: Progress) -> list[verify_sidecar.Report]:
    """Run the verifier that ships on `path`.

    Raises VerificationError naming each difference, UsageError where there is nothing to check.
    """
    step = "check"
    progress.start(step, None)
    try:
        reports = verify_sidecar.check(path, lambda size: progress.advance(step, size))
    except verify_sidecar.UsageError as error:
        raise UsageError(
            "there is nothing here that can be verified",
            why=str(error),
            next_step="name a bundle, an archive of one, or a release",
        ) from error
    progress.finish(step)
    found = [f"{one.subject}: {line}" for one in reports for line in one.differences]
    if found:
        raise VerificationError(
            f"{path.name} differs in {len(found)} places from what it says of itself",
            why="\n    ".join(found),
            next_step="get it again, or make it again: python3 build release",
        )
    return reports


def _stem(manifest: Manifest) -> str:
    return f"{PRODUCT}-{manifest.version}-{label(manifest.target, manifest.profile)}"


def _archives(bundle: Bundle, edition: Edition, folder: Path, progress: Progress) -> None:
    stem = _stem(bundle.manifest)
    size = sum(component.size for component in bundle.manifest.components)
    for name, write_archive in (
        (f"{stem}{SUFFIX}", write_tar_zst),
        (f"{stem}.zip", write_zip),
    ):
        progress.start(name, size)
        write_archive(
            bundle.root,
            folder / name,
            epoch=edition.epoch,
            on_bytes=lambda count, name=name: progress.advance(name, count),  # type: ignore[misc]
        )
        progress.finish(name)
        _cut(folder / name, edition)
    for paper in PAPERS:
        shutil.copyfile(bundle.root / paper, folder / f"{stem}.{paper}")


def _image(edition: Edition, folder: Path, store: Store, progress: Progress) -> None:
    """Write one image for all machines that it can be for."""
    chosen = [one for one in edition.bundles if one.manifest.target in edition.bases]
    if not chosen:
        return
    with Layers(store, progress) as layers:
        images = [
            image.compose(
                bundle.root,
                layers,
                base=edition.bases[bundle.manifest.target],
                epoch=edition.epoch,
                revision=edition.build.commit,
            )
            for bundle in chosen
        ]
    manifests = [bundle.manifest for bundle in chosen]
    targets = "-".join(label(one.target, one.profile) for one in manifests)
    name = f"{PRODUCT}-{edition.version}-{targets}.oci.tar"
    image.write(images, folder / name, name=f"{PRODUCT}:{edition.version}", epoch=edition.epoch)
    _cut(folder / name, edition)


def _cut(archive: Path, edition: Edition) -> None:
    if edition.part_bytes is not None:
        split_file(archive, edition.part_bytes)
