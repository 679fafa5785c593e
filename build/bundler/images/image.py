"""A bundle as a container image, written directly: no engine, no registry, for any machine.

The image holds what the manifest lists, in one layer for each component and from what changes
least to what changes most: base, python, heavy, packages, models, service, and the top files. A
component's own list of files lies in its layer, so a changed service leaves every other layer as
it was. Bytes depend on the bundle, the base and the date alone.
"""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.archive import tar_header
from bundler.atomic import whole
from bundler.digests import Digest
from bundler.errors import UnsupportedError, VerificationError
from bundler.images import oci
from bundler.images.layers import PLACE, Layers, Part, check_base
from bundler.plan import COMPONENTS
from bundler.targets import ARCHITECTURES, target_named
from sidecar.manifest import (
    MANIFEST,
    MANIFESTS,
    FileEntry,
    Manifest,
    ManifestError,
    decode,
    read_entries,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from bundler.images.layers import Layer

PORT = 8421
# An account without a name: no base has to define it.
USER = "65532:65532"
TOP = "top"
# Straight to the port: no proxy is asked, and nothing but the interpreter's own library is read.
HEALTH = (
    "import http.client, sys; "
    f"c = http.client.HTTPConnection('127.0.0.1', {PORT}, timeout=4); "
    "c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image for one machine: its documents and its layers, lowest first."""

    bundle: Manifest
    architecture: str
    layers: tuple[Layer, ...]
    config: oci.ImageDocument
    manifest: oci.ImageDocument


def compose(
    root: Path,
    layers: Layers,
    *,
    base: Path | None,
    epoch: int,
    revision: str | None = None,
) -> Image:
    """Return the image of the bundle at `root` on the tar `base`, making the layers it lacks.

    Every file is hashed on its way into a layer; the folder's other files are left out. `revision`
    names the source control's commit, if it is to be said. Raises VerificationError,
    UnsupportedError for a bundle that is not for Linux, PolicyError for a base that will not do.
    """
    try:
        data = (root / MANIFEST).read_bytes()
        bundle = decode(data)
        architecture = _architecture(bundle)
        parts = list(parts_of(root, bundle, data, epoch))
    except (OSError, ManifestError) as error:
        raise VerificationError(
            f"{root} is not a bundle that can become an image",
            why=str(error),
            next_step="python3 build assemble",
        ) from error
    below = (check_base(base, bundle, architecture),) if base else ()
    made = (*map(layers.layer, below), *map(layers.layer, parts))
    config = oci.config(
        _process(bundle, epoch, revision), made, architecture=architecture, epoch=epoch
    )
    return Image(
        bundle=bundle,
        architecture=architecture,
        layers=made,
        config=config,
        manifest=oci.manifest(config, made),
    )


def _architecture(bundle: Manifest) -> str:
    target = target_named(bundle.target)
    if target.os != "linux":
        raise UnsupportedError(
            f"a bundle for {target.name} cannot become an image",
            why="containers run Linux",
            next_step="python3 build assemble --target linux-x64, then this again",
        )
    return ARCHITECTURES[target.name.partition("-")[2]]


def parts_of(root: Path, bundle: Manifest, data: bytes, epoch: int) -> Iterator[Part]:
    """Yield what each layer above the base holds, in order; `data` is manifest.json.

    Raises ManifestError.
    """
    for component in sorted(bundle.components, key=lambda one: COMPONENTS.index(one.name)):
        name = f"{MANIFESTS}/{component.name}.json"
        size = (root / name).stat().st_size
        listing = FileEntry(path=name, mode=0o644, size=size, sha256=component.digest)
        yield Part(
            name=component.name,
            identity=component.digest,
            root=root,
            entries=(*read_entries(root, component), listing),
            epoch=epoch,
        )
    digest = Digest.of_bytes(data)
    top = FileEntry(path=MANIFEST, mode=0o644, size=len(data), sha256=digest.sha256)
    yield Part(
        name=TOP,
        identity=digest.sha256,
        root=root,
        entries=(*bundle.documents, top),
        epoch=epoch,
    )


def _process(bundle: Manifest, epoch: int, revision: str | None) -> oci.ImageProcess:
    python = [f"/{PLACE}/{bundle.runtime.executable}", "-I", "-B"]
    service = [f"/{PLACE}/embedding_sidecar", "--host", "0.0.0.0"]  # noqa: S104 - of the container
    return oci.ImageProcess(
        arguments=(*python, *service, "--port", str(PORT), "--allow-remote"),
        health=(*python, "-c", HEALTH),
        port=PORT,
        user=USER,
        folder=f"/{PLACE}",
        labels=_labels(bundle, epoch, revision),
    )


def _labels(bundle: Manifest, epoch: int, revision: str | None) -> Mapping[str, str]:
    """Return the labels; the licences of everything inside stand in NOTICES.txt."""
    labels = {
        "org.opencontainers.image.title": "sidecar",
        "org.opencontainers.image.description": "Text embeddings over HTTP, with no network",
        "org.opencontainers.image.version": bundle.version,
        "org.opencontainers.image.created": oci.moment(epoch),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "sidecar.plan": bundle.plan,
        "sidecar.target": bundle.target,
    }
    if revision:
        labels["org.opencontainers.image.revision"] = revision
    if bundle.unreleasable:
        labels["sidecar.not-for-release"] = "; ".join(bundle.unreleasable)
    return labels


def write(images: Sequence[Image], output: Path, *, name: str, epoch: int) -> Digest:
    """Write `images`, at least one, as an OCI archive called `name`; return the image's digest.

    `docker load` takes the same file. Images for several machines lie below one index, and are
    called NAME-ARCHITECTURE for Docker, which knows one machine. Written beside, synced, renamed:
    a crash leaves the old archive or the new one, and perhaps a hidden file that the next run
    sweeps. Raises DiskError.
    """
    with whole(output) as raw:
        return _write(images, raw, name, epoch).digest


def names_in_engine(images: Sequence[Image], name: str) -> list[str]:
    """Return what `docker load` calls the images of an archive called `name`."""
    if len(images) == 1:
        return [name]
    return [f"{name}-{one.architecture}" for one in images]


def _write(images: Sequence[Image], raw: BinaryIO, name: str, epoch: int) -> oci.ImageDocument:
    if len(images) == 1:
        (image,) = images
        top = image.manifest
        extra = [image.config]
        layout = oci.layout_index(top, name=name, platform=oci.platform(image.architecture))
    else:
        top = oci.index([(image.architecture, image.manifest) for image in images])
        extra = [document for image in images for document in (image.config, image.manifest)]
        layout = oci.layout_index(top, name=name)
    named = zip(names_in_engine(images, name), images, strict=True)
    docker = oci.docker_index([(called, one.config, one.layers) for called, one in named])
    blobs: dict[str, bytes | Path] = {oci.blob(one.digest): one.data for one in (top, *extra)}
    blobs |= {oci.blob(one.digest): one.path for image in images for one in image.layers}
    members = {
        "oci-layout": oci.LAYOUT,
        "index.json": layout,
        "manifest.json": docker,
        **dict(sorted(blobs.items())),
    }
    with tarfile.open(fileobj=raw, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for folder in ("blobs", "blobs/sha256"):
            tar.addfile(tar_header(folder, epoch))
        for path, content in members.items():
            if isinstance(content, bytes):
                info = tar_header(path, epoch, size=len(content))
                tar.addfile(info, io.BytesIO(content))
            else:
                with content.open("rb") as stream:
                    info = tar_header(path, epoch, size=os.fstat(stream.fileno()).st_size)
                    tar.addfile(info, stream)
    return top
