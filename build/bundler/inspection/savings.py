"""What each diet rule was measured to save: what the recipe records, held against a bundle.

A figure is documentation of a rule, as its reason is: no plan holds it, and no byte follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.errors import UsageError
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bundler.inspection.sizes import Sizes
    from bundler.recipe import Recipe

COMMAND = "python3 build size --saves"


def recorded(recipe: Recipe) -> dict[str, Mapping[str, int]]:
    """Return the bytes that the recipe records for each rule, by target. Raises UsageError."""
    rules = recipe.sections.get("diet", {}).get("rules", {})
    found = {name: entry.get("saves", {}) for name, entry in rules.items()}
    for name, saves in found.items():
        if not isinstance(saves, dict) or not all(
            target in TARGETS and type(size) is int and size > 0 for target, size in saves.items()
        ):
            raise UsageError(
                f"the diet rule {name} has saves that are no bytes by target",
                why=f"it says {saves!r}, the targets are {', '.join(TARGETS)}",
                next_step=f"paste what this prints: {COMMAND}",
            )
    return found


def stale(recipe: Recipe, sizes: Sizes) -> tuple[str, ...]:
    """Return in words which recorded figures are not those of a bundle. Raises UsageError.

    `sizes` must have been weighed with every wheel at hand.
    """
    measured = _measured(sizes)
    return tuple(
        f"{name}: {saves.get(sizes.target, 'no')} bytes in the recipe, "
        f"{measured.get(name, 0)} in this bundle for {sizes.target}"
        for name, saves in _told(recipe, sizes).items()
        if saves.get(sizes.target) != measured.get(name)
    )


def entries(recipe: Recipe, sizes: Sizes) -> Iterator[str]:
    """Yield the lines that record the savings of a bundle in the recipe, rule by rule.

    Figures of other targets stay. A rule that has one for another target gets none for this one.
    Raises UsageError.
    """
    measured = _measured(sizes)
    for name, saves in _told(recipe, sizes).items():
        if name in measured:
            both = {**saves, sizes.target: measured[name]}
            figures = ", ".join(f"{target} = {both[target]:_}" for target in sorted(both))
            yield f"[diet.rules.{name}]"
            yield f"saves = {{ {figures} }}"


def _measured(sizes: Sizes) -> dict[str, int]:
    return {saving.rule.name: saving.size for saving in sizes.savings}


def _told(recipe: Recipe, sizes: Sizes) -> dict[str, Mapping[str, int]]:
    """Return the records of the rules whose figure is this bundle's to tell."""
    rules = recipe.sections.get("diet", {}).get("rules", {})
    measured = _measured(sizes)
    return {
        name: saves
        for name, saves in recorded(recipe).items()
        if sizes.profile in rules[name]["profiles"]
        and (sizes.target in saves or (not saves and name in measured))
    }
