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
from bundler.bundle import read_bundle
from bundler.errors import UnsupportedError
from bundler.images import oci
from bundler.images.layers import PLACE, Layers, Part, check_base
from bundler.plan import COMPONENTS
from bundler.targets import ARCHITECTURES, target_named
from sidecar.manifest import MANIFEST, MANIFESTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from bundler.bundle import ListedBundle
    from bundler.digests import Digest
    from bundler.images.layers import Layer
    from sidecar.manifest import Manifest

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
    listed = read_bundle(root, purpose="become an image")
    bundle = listed.manifest
    architecture = _architecture(bundle)
    below = (check_base(base, bundle, architecture),) if base else ()
    made = (*map(layers.layer, below), *map(layers.layer, parts_of(listed, epoch)))
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


def parts_of(bundle: ListedBundle, epoch: int) -> Iterator[Part]:
    """Yield what each layer above the base holds, in order."""
    own = {entry.path: entry for entry in bundle.own}
    parts = [
        (one.name, own[f"{MANIFESTS}/{one.name}.json"], bundle.lists[one.name])
        for one in sorted(bundle.manifest.components, key=lambda one: COMPONENTS.index(one.name))
    ]
    for name, listing, entries in (*parts, (TOP, own[MANIFEST], bundle.manifest.documents)):
        yield Part(
            name=name,
            identity=listing.sha256,
            root=bundle.root,
            entries=(*entries, listing),
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
