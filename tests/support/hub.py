"""A loopback server that speaks the protocol of the Hugging Face hub for models made by tests."""

from __future__ import annotations

import hashlib
import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bundler.artifacts.network import Network
from tests.support.badserver import BadServer, honest_with, status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.badserver import Behaviour

REVISION = "1234567890abcdef1234567890abcdef12345678"
LFS_SUFFIXES = (".safetensors", ".bin", ".onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackNetwork(Network):
    """A network without certificates: reading those takes longer than most tests."""

    def verify(self) -> ssl.SSLContext:
        """Return a context that trusts nobody."""
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def blob_id(data: bytes) -> str:
    """Return git's id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> str:
    """Return the digest of a file in LFS."""
    return hashlib.sha256(data).hexdigest()


@dataclass(slots=True)
class TinyHub(BadServer):
    """A hub: `publish` puts a repository on it, `script` lets one file's requests go wrong.

    Files in LFS are redirected to `storage`, another server, if there is one.
    """

    storage: BadServer | None = None
    gated: set[str] = field(default_factory=set)

    def publish(
        self,
        repository: str,
        files: Mapping[str, bytes],
        *,
        revision: str = REVISION,
        license: str | None = "apache-2.0",  # noqa: A002 - the hub's word
        gated: bool = False,
        answers: Mapping[str, Any] | None = None,
    ) -> None:
        """Serve `files` at `revision` and as main. `answers` replaces keys of the API's answer."""
        info = {
            "_id": "0",
            "id": repository,
            "modelId": repository,
            "sha": revision,
            "private": False,
            "gated": "manual" if gated else False,
            "tags": [],
            "cardData": {"license": license} if license else {},
            "siblings": [
                _entry(path, data, "rfilename", "blobId", "sha256")
                for path, data in sorted(files.items())
            ],
            **(answers or {}),
        }
        listing = [
            {"type": "file", **_entry(path, data, "path", "oid", "oid")}
            for path, data in sorted(files.items())
        ]
        for ref in (revision, "main"):
            self.add(f"api/models/{repository}/revision/{ref}", json.dumps(info).encode())
            self.add(f"api/models/{repository}/tree/{ref}", json.dumps(listing).encode())
            for path, data in files.items():
                self._serve(f"{repository}/resolve/{ref}/{path}", path, data, revision)
        self.add(f"api/models/{repository}", json.dumps(info).encode())
        if gated:
            self.gated.add(repository)

    def go_wrong(self, name: str, *script: Behaviour, forever: Behaviour | None = None) -> None:
        """Answer the next requests for the path `name` by `script`, all later ones by `forever`."""
        self.add(name, self.files[f"/{name}"], *script, forever=forever)

    def lfs_name(self, data: bytes) -> str:
        """Return the path at which the storage has a file."""
        return f"lfs/{sha256(data)}"

    def behaviour(self, path: str) -> Behaviour:
        """Ask for a login where a repository is gated, or not there at all, as the hub does."""
        is_api = path.startswith("/api/")
        name = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        if path not in self.files:
            code = 404 if name in {key[1:].partition("/resolve/")[0] for key in self.files} else 401
            kind = "RevisionNotFound" if code == 404 else "RepoNotFound"
            return status(code, X_Error_Code=kind)
        if name in self.gated and not is_api:
            asked = self.seen[-1].authorization
            if asked != "Bearer hf_good":
                return status(403 if asked else 401, X_Error_Code="GatedRepo")
        return BadServer.behaviour(self, path)

    def _serve(self, name: str, path: str, data: bytes, revision: str) -> None:
        headers = {"X_Repo_Commit": revision, "Accept_Ranges": "bytes"}
        if path.endswith(LFS_SUFFIXES):
            url = (self.storage or self).add(self.lfs_name(data), data)
            headers |= {"X_Linked_Size": str(len(data)), "X_Linked_Etag": f'"{sha256(data)}"'}
            self.add(name, data, forever=status(302, Location=url, **headers))
        else:
            self.add(name, data, forever=honest_with(ETag=f'"{blob_id(data)}"', **headers))


def _entry(path: str, data: bytes, *names: str) -> dict[str, Any]:
    """Return what the API says of a file; `names` are those of its path, id and digest."""
    of_path, of_id, of_digest = names
    entry: dict[str, Any] = {of_path: path, "size": len(data), of_id: blob_id(data)}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {of_digest: sha256(data), "size": len(data), "pointerSize": 134}
    return entry
