"""A loopback server that speaks the protocol of the Hugging Face hub for models made by tests."""

from __future__ import annotations

import hashlib
import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bundler.artifacts.network import Network
from tests.support.badserver import BadServer, honest, redirect, status

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
            "siblings": [self._sibling(path, files[path]) for path in sorted(files)],
            **(answers or {}),
        }
        listing = [self._tree(path, files[path]) for path in sorted(files)]
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
        return f"lfs/{hashlib.sha256(data).hexdigest()}"

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
        headers = {"X-Repo-Commit": revision, "Accept-Ranges": "bytes"}
        if path.endswith(LFS_SUFFIXES):
            place = self.storage or self
            url = place.add(self.lfs_name(data), data)
            digest = hashlib.sha256(data).hexdigest()
            linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
            self.add(name, data, forever=_with({**headers, **linked}, redirect(url)))
        else:
            self.add(name, data, forever=_with({**headers, "ETag": f'"{blob_id(data)}"'}, honest))

    def _sibling(self, path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": blob_id(data)}
        if path.endswith(LFS_SUFFIXES):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
        return entry

    def _tree(self, path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
        entry["oid"] = blob_id(data)
        if path.endswith(LFS_SUFFIXES):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
        return entry


def _with(headers: Mapping[str, str], behave: Behaviour) -> Behaviour:
    """Add `headers` to whatever `behave` answers."""

    def wrapped(handler: Any, data: bytes) -> None:
        plain = handler.head
        handler.head = lambda code, own: plain(code, {**headers, **own})
        try:
            behave(handler, data)
        finally:
            del handler.head

    return wrapped
