"""The model's files on this machine: which ones, whether they are the locked ones, and safe."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sidecar import manifest
from sidecar.arguments import nearest
from sidecar.engines.packed import architecture
from sidecar.engines.packed.weights import open_weights
from sidecar.errors import IntegrityError, PolicyError, UnreachableError, UsageError
from sidecar.models import trust
from sidecar.settings import Settings

COMPONENT = "models"
NOWHERE = Path()  # the folder of a model that has no files, or none yet
REPAIR = "install the app again: this copy of the bundle is damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What clients are told of a model's files: its family, parameters and size in bytes.

    `modified_s` is when its list of steps was last changed, in seconds since 1970. A family is as
    config.json names it, `unknown` where nothing does; of weights that are not in one file of
    tensors no parameters are counted.
    """

    family: str = "unknown"
    parameters: int = 0
    size: int = 0
    modified_s: int = 0


UNKNOWN = Description()


def describe(folder: Path) -> Description:
    """Return what is to be told of the snapshot in `folder`."""
    try:
        family = str(architecture.read_table(folder / "config.json").get("model_type", "unknown"))
    except architecture.UnpackableError:
        family = UNKNOWN.family
    try:
        tensors = open_weights(architecture.weights_file(folder)).tensors.values()
        parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    except architecture.UnpackableError:
        parameters = 0
    return Description(
        family=family,
        parameters=parameters,
        modified_s=int((folder / "modules.json").stat().st_mtime),
        size=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A model's folder and what is known of it before it is loaded.

    `plan` is the bundle's plan id, None outside a bundle; `golden` is the file with the model's
    reference vectors, None if there is none, and `least_int8` the cosine that int8 vectors must
    have to them, None if the model has no int8. `least_dim` is the smallest number of dimensions
    that vectors may be cut to, None if they may not.
    """

    repository: str
    revision: str
    path: Path
    name: str | None = None
    golden: Path | None = None
    least_int8: float | None = None
    plan: str | None = None
    dim: int | None = None
    aliases: tuple[str, ...] = ()
    least_dim: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a request may have for it, the one that it is listed by first."""
        return manifest.names_of(self.name, self.repository, self.aliases)


def manifest_of(root: Path) -> manifest.Manifest:
    """Return the bundle's manifest. Raises IntegrityError."""
    try:
        return manifest.read(root)
    except manifest.ManifestError as error:
        what = f"{manifest.MANIFEST} of the bundle is damaged"
        raise IntegrityError(what, why=str(error), next_step=REPAIR) from error


def from_bundle(root: Path, wanted: str | None) -> tuple[manifest.Manifest, manifest.Model | None]:
    """Return the bundle's manifest and the model that `wanted` (None: the default) names in it.

    The model is None if the bundle has no such model. Raises IntegrityError.
    """
    found = manifest_of(root)
    name = (wanted or found.default_model or "").casefold()
    for model in found.models:
        names = manifest.names_of(model.name, model.repository, model.aliases)
        if name in map(str.casefold, names):
            return found, model
    return found, None


def verify(root: Path, found: manifest.Manifest, model: manifest.Model) -> Snapshot:
    """Return the model's snapshot after checking every byte of it. Raises IntegrityError."""
    try:
        component = next(c for c in found.components if c.name == COMPONENT)
        entries = manifest.read_entries(root, component)
    except StopIteration as error:
        what = f"{manifest.MANIFEST} lists no component {COMPONENT!r}"
        raise IntegrityError(what, next_step=REPAIR) from error
    except manifest.ManifestError as error:
        what = f"{manifest.MANIFESTS}/{COMPONENT}.json is damaged"
        raise IntegrityError(what, why=str(error), next_step=REPAIR) from error
    inside = [entry for entry in entries if entry.path.startswith(f"{model.snapshot}/")]
    golden = [entry for entry in entries if entry.path == model.golden]
    if not inside:
        what = f"the bundle lists no files for the model {model.name}"
        raise IntegrityError(what, why=model.snapshot, next_step=REPAIR)
    known = [entry.path for entry in inside]
    differences = list(manifest.damages(root, [*inside, *golden]))
    try:
        # A file that is missing is named before the folder that went with it.
        differences = differences or list(manifest.strays(root, known, model.snapshot))
    except OSError as error:
        what = f"{model.snapshot} of the bundle cannot be listed"
        raise IntegrityError(what, why=error.strerror or "", next_step=REPAIR) from error
    for damage in differences:
        what = f"{damage.path} is {_SPOKEN[damage.kind]}"
        raise IntegrityError(what, why=damage.detail, next_step=REPAIR)
    return listed(root, found, model)


def listed(root: Path, found: manifest.Manifest, model: manifest.Model) -> Snapshot:
    """Return the model's snapshot as the manifest has it; nothing of it is looked at."""
    return Snapshot(
        name=model.name,
        repository=model.repository,
        revision=model.revision,
        path=root / model.snapshot,
        golden=root / model.golden if model.golden else None,
        least_int8=model.least_int8,
        plan=found.plan,
        dim=model.dim,
        aliases=model.aliases,
        least_dim=model.least_dim,
    )


_SPOKEN = {
    "missing": "missing",
    "extra": "not part of the bundle",
    "changed": "not the file that was locked",
}


def from_folder(folder: Path) -> Snapshot:
    """Return the snapshot in a plain folder, named by what its files contain.

    Nothing says what the bytes should be; the same bytes give the same revision.
    Raises UsageError if the folder holds no model.
    """
    path = folder.absolute()
    if not (path / "modules.json").is_file():
        what = f"{folder} holds no sentence-transformers model"
        raise UsageError(
            what, why="it has no modules.json", next_step="--model FOLDER_OF_A_SNAPSHOT"
        )
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        line = f"{file.relative_to(path).as_posix()} {manifest.file_sha256(file)}\n"
        digest.update(line.encode())
    return Snapshot(repository=path.name, revision=digest.hexdigest()[:40], path=path)


def from_cache(cache: Path, repository: str) -> Snapshot | None:
    """Return the snapshot of `repository` in a Hugging Face cache folder, or None."""
    folder = "models--" + repository.replace("/", "--")
    for base in (cache / "hub" / folder, cache / folder):
        try:
            revision = (base / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            continue
        path = base / "snapshots" / revision
        if revision and (path / "modules.json").is_file():
            return Snapshot(repository=repository, revision=revision, path=path)
    return None


def missing(settings: Settings, *, known: tuple[str, ...] = ()) -> UnreachableError:
    """Return the error for a model that is not on this machine; a bundle has the `known` ones."""
    wanted = settings.model
    what = f"the model {wanted} is not here" if wanted else "no model was named"
    if known:
        near = nearest(wanted or "", known) or known
        why = f"the bundle holds {', '.join(known)}"
        return UnreachableError(what, why=why, next_step=f"--model {near[0]}")
    steps = ["--model FOLDER"]
    if settings.model_cache is None:
        steps.append("--model-cache DIR with a repository's name")
    if not settings.allow_download:
        steps.append("--allow-download with a repository's name")
    if wanted is None and (settings.allow_download or settings.model_cache is not None):
        steps.append("--model REPOSITORY")
    why = "there is no bundle around the service"
    return UnreachableError(what, why=why, next_step=", or ".join(steps))


def refuse_code(path: Path) -> None:
    """Raise PolicyError if the snapshot could run its own code when it is loaded.

    In a bundle every name and byte is vouched for; a local folder is gated here alone, and loaders
    have trusted those more than the hub's (sentence-transformers issue 3801).
    """
    if not (path / "modules.json").is_file():
        what = "the model has no modules.json"
        raise PolicyError(what, next_step="choose a sentence-transformers model")
    for danger in trust.dangers(path):
        what = f"the model is not loaded because of its file {danger.path}"
        step = "choose a model without code, or remove the file from the folder"
        raise PolicyError(what, why=danger.why, next_step=step)


Phase = Literal["starting", "verifying", "downloading", "importing", "loading", "checking"]
Report = Callable[[Phase], None]
