"""A bundle as a container image, written directly: no engine, no registry, for any machine.

Its documents are as the OCI image specification 1.1 and `docker load` spell them.

The image holds what the manifest lists, in one layer for each component and from what changes
least to what changes most: base, python, heavy, packages, models, service, and the top files. A
component's own list of files lies in its layer, so a changed service leaves every other layer as
it was. Bytes depend on the bundle, the base and the date alone.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bundler.archive import tar_header
from bundler.atomic import whole
from bundler.bundle import read_bundle
from bundler.digests import Digest
from bundler.errors import UnsupportedError
from bundler.images.layers import PLACE, Layers, Part, check_base
from bundler.plan import COMPONENTS
from bundler.profiles import WITH_SHELL
from bundler.targets import ARCHITECTURES, target_named
from sidecar.manifest import MANIFEST, MANIFESTS, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bundler.bundle import ListedBundle
    from bundler.images.layers import Layer
    from sidecar.manifest import Manifest

PORT = 8421
# An account without a name: no base has to define it.
USER = "65532:65532"
TOP = "top"
# Profiles whose program has another command than to serve. Their options of serving are the default
# command, which the word `embed` takes the place of; in other images they are of the entrypoint.
WITH_COMMANDS = ("batch", "cluster")
# Where `ray` and the interpreter are found by name, where Ray writes the token that it makes if it
# is given none, and that it reports its use to no one.
RAYS = [
    f"PATH=/usr/local/bin:/usr/bin:/bin:/{PLACE}/python/bin",
    "HOME=/tmp",
    "RAY_USAGE_STATS_ENABLED=0",
    "RAY_USAGE_STATS_REPORT_URL=http://127.0.0.1:9/",  # a head reports that it reports nothing
]
# Straight to the port: no proxy is asked, and nothing but the interpreter's own library is read.
HEALTH = (
    "import http.client, sys; "
    f"c = http.client.HTTPConnection('127.0.0.1', {PORT}, timeout=4); "
    "c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"
)


LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
# Long enough for a large model on a slow disk; a container that is ready sooner is healthy sooner.
START_PERIOD_S = 120
INTERVAL_S = 30
TIMEOUT_S = 5
RETRIES = 3
NANO = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDocument:
    """One of an image's own files: what it is, and its bytes."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> Digest:
        """The digest it is known by."""
        return Digest.of_bytes(self.data)

    def described(self, **more: object) -> dict[str, Any]:
        """Return how another document names this one."""
        return descriptor(self.media_type, self.digest, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image for one machine: its documents and its layers, lowest first."""

    bundle: Manifest
    architecture: str
    layers: tuple[Layer, ...]
    config: ImageDocument
    manifest: ImageDocument

    @property
    def platform(self) -> dict[str, str]:
        """What an index says of the machine."""
        return {"architecture": self.architecture, "os": "linux"}


def compose(
    root: Path, layers: Layers, *, base: Path | None, epoch: int, revision: str | None = None
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
    configuration = _config(bundle, made, architecture, epoch, revision)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": configuration.described(),
        "layers": [
            descriptor(LAYER, layer.digest, annotations={"sidecar.layer": layer.name})
            for layer in made
        ],
    }
    return Image(
        bundle=bundle,
        architecture=architecture,
        layers=made,
        config=configuration,
        manifest=ImageDocument(media_type=MANIFEST_TYPE, data=canonical(manifest)),
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


def _config(
    bundle: Manifest, layers: Sequence[Layer], architecture: str, epoch: int, revision: str | None
) -> ImageDocument:
    """Return the image's configuration.

    `Healthcheck` is Docker's own field; other engines pass over it.
    """
    python = [f"/{PLACE}/{bundle.runtime.executable}", "-I", "-B"]
    program = [*python, f"/{PLACE}/embedding_sidecar"]
    everywhere = "0.0.0.0"  # noqa: S104 - of the container
    serving = ["--host", everywhere, "--port", str(PORT), "--allow-remote"]
    started: dict[str, list[str]] = {"Entrypoint": [*program, *serving]}
    if bundle.profile in WITH_COMMANDS:
        started = {"Entrypoint": program, "Cmd": serving}
    if bundle.profile in WITH_SHELL:
        started["Env"] = RAYS
    created = moment(epoch)
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            **started,
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "Healthcheck": {
                "Test": ["CMD", *python, "-c", HEALTH],
                "Interval": INTERVAL_S * NANO,
                "Timeout": TIMEOUT_S * NANO,
                "StartPeriod": START_PERIOD_S * NANO,
                "Retries": RETRIES,
            },
            "Labels": _labels(bundle, epoch, revision),
            "StopSignal": "SIGTERM",
            "User": USER,
            "WorkingDir": f"/{PLACE}",
        },
        "history": [
            {"created": created, "created_by": f"python3 build image ({layer.name})"}
            for layer in layers
        ],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
    }
    return ImageDocument(media_type=CONFIG, data=canonical(document))


def _labels(bundle: Manifest, epoch: int, revision: str | None) -> dict[str, str]:
    """Return the labels; the licences of everything inside stand in NOTICES.txt."""
    labels = {
        "org.opencontainers.image.title": "sidecar",
        "org.opencontainers.image.description": "Text embeddings over HTTP, with no network",
        "org.opencontainers.image.version": bundle.version,
        "org.opencontainers.image.created": moment(epoch),
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
    top, more = images[0].manifest, {"platform": images[0].platform}
    if len(images) > 1:
        top, more = _index([one.manifest.described(platform=one.platform) for one in images]), {}
    annotations = {"org.opencontainers.image.ref.name": name}
    layout = _index([top.described(annotations=annotations, **more)])
    # The layers are those of the OCI layout: Docker decompresses what it loads.
    docker = [
        {
            "Config": blob(image.config.digest),
            "Layers": [blob(layer.digest) for layer in image.layers],
            "RepoTags": [called],
        }
        for called, image in zip(names_in_engine(images, name), images, strict=True)
    ]
    documents = [top, *(document for one in images for document in (one.config, one.manifest))]
    blobs: dict[str, bytes | Path] = {blob(one.digest): one.data for one in documents}
    blobs |= {blob(one.digest): one.path for image in images for one in image.layers}
    members = {
        "oci-layout": canonical({"imageLayoutVersion": "1.0.0"}),
        "index.json": layout.data,
        "manifest.json": canonical(docker),
        **dict(sorted(blobs.items())),
    }
    with (
        whole(output) as raw,
        tarfile.open(fileobj=raw, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for folder in ("blobs", "blobs/sha256"):
            tar.addfile(tar_header(folder, epoch))
        for path, content in members.items():
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as data:
                size = data.seek(0, io.SEEK_END)
                data.seek(0)
                tar.addfile(tar_header(path, epoch, size=size), data)
    return top.digest


def names_in_engine(images: Sequence[Image], name: str) -> list[str]:
    """Return what `docker load` calls the images of an archive called `name`."""
    if len(images) == 1:
        return [name]
    return [f"{name}-{one.architecture}" for one in images]


def _index(manifests: list[dict[str, Any]]) -> ImageDocument:
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return ImageDocument(media_type=INDEX, data=canonical(document))


def descriptor(media_type: str, digest: Digest, **more: object) -> dict[str, Any]:
    """Return how one document names another, or a layer."""
    return {
        "mediaType": media_type,
        "digest": f"sha256:{digest.sha256}",
        "size": digest.size,
        **more,
    }


def blob(digest: Digest) -> str:
    """Return where the bytes of `digest` lie in an image's archive."""
    return f"blobs/sha256/{digest.sha256}"


def moment(epoch: int) -> str:
    """Return seconds since 1970 as RFC 3339 spells them."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
