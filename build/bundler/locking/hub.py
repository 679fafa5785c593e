"""What a Hugging Face repository holds at a commit, and its small files, checked by git's ids."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import httpx2

from bundler.artifacts.download import PlaceError
from bundler.artifacts.sources import HubSource, Location
from bundler.bootstrap import connection
from bundler.bootstrap.connection import shown
from bundler.digests import Artifact, Digest
from bundler.errors import IntegrityError, UnreachableError, UsageError
from bundler.recipe import REVISION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from huggingface_hub.hf_api import ModelInfo, RepoSibling

    from bundler.artifacts.network import Network

Answer = TypeVar("Answer")

# What git itself keeps of a model is configuration and vocabulary; anything larger is in LFS.
MAX_BLOB_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a repository: `sha256` is known for those in LFS, `blob` (git's id) for others."""

    path: str
    size: int
    sha256: str | None = None
    blob: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository at a commit. `license` is what its card says, None if it says nothing."""

    repository: str
    revision: str
    license: str | None
    files: tuple[HubFile, ...]


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A hub, or a mirror of it, and how to reach it. The token goes to this host and no other.

    `named_by` is the option or variable that named the endpoint, if one did.
    """

    endpoint: str
    network: Network
    token: str | None = field(default=None, repr=False)
    named_by: str = ""

    def listing(self, repository: str, revision: str | None) -> Listing:
        """Return what `repository` holds at `revision`, a commit; None takes the newest of main.

        Raises UsageError (no such repository or commit), UnreachableError (no answer, or none
        without a login) and IntegrityError (the answer is about another commit).
        """
        info, files = self._ask(repository, lambda: self._describe(repository, revision))
        found = info.sha or ""
        if not REVISION.fullmatch(found) or (revision is not None and found != revision):
            raise IntegrityError(
                f"the hub does not answer for {repository} at the commit that was asked for",
                why=f"it answers for {found or 'none'}, the recipe says {revision or 'main'}",
                next_step="check the address of the hub, or the revision in bundle/recipe.toml",
            )
        if info.gated and not self.token:
            raise self._gated(repository)
        return Listing(
            repository=repository,
            revision=found,
            license=_license(info),
            files=files,
        )

    def source(self, listing: Listing, path: str) -> HubSource:
        """Return where a file of the repository is fetched from."""
        return HubSource(
            repository=listing.repository,
            revision=listing.revision,
            path=path,
            endpoint=self.endpoint,
            token=self.token,
        )

    def blobs(self, listing: Listing, files: Iterable[HubFile]) -> Iterator[tuple[HubFile, bytes]]:
        """Yield `files`, which git keeps, with their bytes. Raises IntegrityError and kin."""
        with self.network.client() as client:
            for file in files:
                yield file, self._read(client, listing, file)

    def _read(self, client: httpx2.Client, listing: Listing, file: HubFile) -> bytes:
        # The hash is what we are about to learn; the address does not depend on it.
        unknown = Artifact(name=file.path, digest=Digest(sha256="0" * 64))
        places = self.source(listing, file.path).locate(unknown)
        place = next(place for place in places if isinstance(place, Location))
        data = self._ask(listing.repository, lambda: _get(client, place, file.size))
        if len(data) != file.size or blob_id(data) != file.blob:
            raise IntegrityError(
                f"{file.path} of {listing.repository} is not the file of that commit",
                why=f"git's id for what came is {blob_id(data)}, the commit says {file.blob}",
                next_step="check the address of the hub and any proxy before it, then lock again",
            )
        return data

    def _describe(
        self, repository: str, revision: str | None
    ) -> tuple[ModelInfo, tuple[HubFile, ...]]:
        # Half a second to import, and it reads the environment: only this command should pay.
        from huggingface_hub import HfApi, close_session, set_client_factory  # noqa: PLC0415

        set_client_factory(self.network.client)
        api = HfApi(endpoint=self.endpoint.rstrip("/"), token=self.token or False)
        try:
            info = api.model_info(
                repository, revision=revision, files_metadata=True, timeout=self.network.read_s
            )
            return info, tuple(_file(sibling) for sibling in info.siblings or ())
        finally:
            close_session()

    def _ask(self, repository: str, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns, after as many tries as the network settings allow."""

        def attempt() -> Answer:
            with self.network.sorting_failures():
                try:
                    return call()
                except httpx2.HTTPError as error:
                    self._refuse(repository, getattr(error, "response", None))
                    raise
                except (ValueError, KeyError, TypeError) as error:
                    raise UnreachableError(
                        f"{shown(self.endpoint)} does not answer as a model hub does",
                        why=f"{type(error).__name__} in its answer for {repository}",
                        next_step=f"check the address in {self.named_by or 'bundle/recipe.toml'}",
                    ) from error

        try:
            return self.network.persist(attempt, time.sleep)
        except PlaceError as error:
            raise self._out_of_reach(repository, str(error)) from error

    def _refuse(self, repository: str, response: httpx2.Response | None) -> None:
        """Raise what the hub means by `response`, where that is more than a failure."""
        if response is None:
            return
        code = response.headers.get("X-Error-Code", "")
        if code == "GatedRepo":
            raise self._gated(repository) from None
        if code == "RevisionNotFound":
            raise UsageError(
                f"the hub has no such revision of {repository}",
                why="it was removed, or never existed",
                next_step="correct the revision in bundle/recipe.toml, or leave it out",
            ) from None
        # For a repository that does not exist, the hub asks for a login instead of saying so.
        is_denied = response.status_code in {httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN}
        if code == "RepoNotFound" or is_denied:
            raise UsageError(
                f"the hub has no repository {repository} for us",
                why=f"it answers HTTP {response.status_code}: there is none by that name, or it is "
                "private",
                next_step="correct it in bundle/recipe.toml, or "
                + ("take a token that may read it" if self.token else "set HF_TOKEN")
                + " if it is private",
            ) from None

    def _out_of_reach(self, repository: str, problem: str) -> UnreachableError:
        return UnreachableError(
            f"{repository} is out of reach",
            why=f"{shown(self.endpoint)}: {problem}",
            next_step=connection.next_step(
                problem,
                f"check the address in {self.named_by}, or leave it out"
                if self.named_by
                else "run where the hub can be reached, or pass --mirror hub=ADDRESS",
            ),
        )

    def _gated(self, repository: str) -> UnreachableError:
        return UnreachableError(
            f"{repository} is gated",
            why="its owner grants access on request"
            + (", and the token's account has none" if self.token else ""),
            next_step=f"ask for access at {shown(self.endpoint)}/{repository}"
            + (" with that account" if self.token else ", then set HF_TOKEN"),
        )


def _get(client: httpx2.Client, place: Location, size: int) -> bytes:
    """Return what one request brings, no more than a little beyond `size`."""
    headers = {**place.headers, "Accept-Encoding": "identity"}
    data = bytearray()
    with client.stream("GET", place.url, headers=headers) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > min(size, MAX_BLOB_BYTES):
                break
    return bytes(data)


def blob_id(data: bytes) -> str:
    """Return git's id for a file with the content `data`."""
    header = b"blob %d\0" % len(data)
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()


def _license(info: ModelInfo) -> str | None:
    stated = getattr(info.card_data, "license", None)
    return stated if isinstance(stated, str) and stated else None


def _file(sibling: RepoSibling) -> HubFile:
    """Return the file once its identity is whole. Raises ValueError."""
    if sibling.lfs:
        digest = Digest(sha256=sibling.lfs.sha256, size=sibling.lfs.size)
        return HubFile(path=sibling.rfilename, size=sibling.lfs.size, sha256=digest.sha256)
    if sibling.size is None or sibling.blob_id is None:
        message = f"{sibling.rfilename} comes without its size or id"
        raise ValueError(message)
    return HubFile(path=sibling.rfilename, size=sibling.size, blob=sibling.blob_id)
