"""The documents of an image as the OCI image specification 1.1 and `docker load` spell them.

Pure: the same arguments give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bundler.digests import Digest
from sidecar.manifest import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bundler.images.layers import Layer

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProcess:
    """What a container of the image runs, and how it is asked for its health."""

    arguments: tuple[str, ...]
    health: tuple[str, ...]
    port: int
    user: str
    folder: str
    labels: Mapping[str, str] = field(default_factory=dict)


def blob(digest: Digest) -> str:
    """Return where the bytes of `digest` lie in an image's archive."""
    return f"blobs/sha256/{digest.sha256}"


def moment(epoch: int) -> str:
    """Return seconds since 1970 as RFC 3339 spells them."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def platform(architecture: str) -> dict[str, str]:
    """Return what an index says of the machine that an image is for."""
    return {"architecture": architecture, "os": "linux"}


def config(
    process: ImageProcess, layers: Sequence[Layer], *, architecture: str, epoch: int
) -> ImageDocument:
    """Return the image's configuration.

    `Healthcheck` is Docker's own field; other engines pass over it.
    """
    created = moment(epoch)
    document = {
        **platform(architecture),
        "created": created,
        "config": {
            "Entrypoint": list(process.arguments),
            "ExposedPorts": {f"{process.port}/tcp": {}},
            "Healthcheck": {
                "Test": ["CMD", *process.health],
                "Interval": INTERVAL_S * NANO,
                "Timeout": TIMEOUT_S * NANO,
                "StartPeriod": START_PERIOD_S * NANO,
                "Retries": RETRIES,
            },
            "Labels": dict(process.labels),
            "StopSignal": "SIGTERM",
            "User": process.user,
            "WorkingDir": process.folder,
        },
        "history": [
            {"created": created, "created_by": f"python3 build image ({layer.name})"}
            for layer in layers
        ],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
    }
    return ImageDocument(media_type=CONFIG, data=canonical(document))


def descriptor(media_type: str, digest: Digest, **more: object) -> dict[str, Any]:
    """Return how one document names another."""
    return {
        "mediaType": media_type,
        "digest": f"sha256:{digest.sha256}",
        "size": digest.size,
        **more,
    }


def manifest(configuration: ImageDocument, layers: Sequence[Layer]) -> ImageDocument:
    """Return the image's manifest; its digest is the image's."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, configuration.digest),
        "layers": [
            descriptor(LAYER, layer.digest, annotations={"sidecar.layer": layer.name})
            for layer in layers
        ],
    }
    return ImageDocument(media_type=MANIFEST, data=canonical(document))


def index(images: Sequence[tuple[str, ImageDocument]]) -> ImageDocument:
    """Return the index of images for several machines: pairs of architecture and manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            descriptor(MANIFEST, made.digest, platform=platform(architecture))
            for architecture, made in images
        ],
    }
    return ImageDocument(media_type=INDEX, data=canonical(document))


def layout_index(top: ImageDocument, *, name: str, **more: object) -> bytes:
    """Return index.json of an archive whose one image, or index, is `top`, called `name`."""
    annotations = {"org.opencontainers.image.ref.name": name}
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [descriptor(top.media_type, top.digest, annotations=annotations, **more)],
    }
    return canonical(document)


def docker_index(images: Sequence[tuple[str, ImageDocument, Sequence[Layer]]]) -> bytes:
    """Return manifest.json, which `docker load` reads: triples of name, configuration, layers.

    The layers are those of the OCI layout: Docker decompresses what it loads.
    """
    return canonical(
        [
            {
                "Config": blob(configuration.digest),
                "Layers": [blob(layer.digest) for layer in layers],
                "RepoTags": [name],
            }
            for name, configuration, layers in images
        ]
    )
