"""How large a bundle is, and what makes it so, as a table and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from xml.sax.saxutils import escape

from bundler.errors import UsageError
from bundler.inspection.inventory import PAPERS
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bundler.assembly.build_report import LeftOut
    from bundler.inspection.inventory import Inventory, Owned
    from bundler.recipe import Recipe

Key = TypeVar("Key")
MOST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSize:
    """How much of a component one package is; it has no name where nothing claims the files."""

    name: str | None
    version: str | None
    files: int
    size: int

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.name} {self.version}" if self.name else "no package"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSize:
    """One component: its files, its bytes, and its packages, the largest first."""

    name: str
    files: int
    size: int
    packages: tuple[PackageSize, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSaving:
    """What one rule saved: how many files it touched, how many bytes less there are."""

    rule: str
    action: str
    package: str
    files: int
    size: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A bundle weighed, and what the diet took off it. Bytes are the files' own, not blocks."""

    plan: str
    target: str
    profile: str
    files: int
    size: int
    components: tuple[ComponentSize, ...]
    savings: tuple[RuleSaving, ...]
    components_without_report: tuple[str, ...]


def _largest(sizes: Iterable[tuple[Key, int]]) -> list[tuple[Key, int, int]]:
    """Return each key with the number of its files and their bytes, the most first."""
    found: dict[Key, list[int]] = {}
    for key, size in sizes:
        found.setdefault(key, []).append(size)
    sums = [(key, len(all_of), sum(all_of)) for key, all_of in found.items()]
    return sorted(sums, key=lambda one: (-one[2], str(one[0])))


def by_package(files: Iterable[Owned]) -> tuple[PackageSize, ...]:
    """Return the packages that `files` belong to, the largest first."""
    return tuple(
        PackageSize(
            name=package.name if package else None,
            version=package.version if package else None,
            files=count,
            size=size,
        )
        for package, count, size in _largest((one.package, one.entry.size) for one in files)
    )


def by_rule(found: Iterable[LeftOut]) -> tuple[RuleSaving, ...]:
    """Return what each rule saved, the most first."""
    ruled = ((one.rule, one.size) for one in found if one.rule is not None)
    return tuple(
        RuleSaving(
            rule=rule.name,
            action=rule.action,
            package=rule.package,
            files=count,
            size=size,
            reason=rule.reason,
        )
        for rule, count, size in _largest(ruled)
    )


def weigh(inventory: Inventory) -> Sizes:
    """Return the sizes of a bundle, and what the rules of its profile saved on its wheels."""
    manifest = inventory.manifest
    components = []
    for name in (*(component.name for component in manifest.components), PAPERS):
        owned = inventory.component(name)
        components.append(
            ComponentSize(
                name=name,
                files=len(owned),
                size=sum(file.entry.size for file in owned),
                packages=() if name == PAPERS else by_package(owned),
            )
        )
    return Sizes(
        plan=manifest.plan,
        target=manifest.target,
        profile=manifest.profile,
        files=sum(component.files for component in components),
        size=sum(component.size for component in components),
        components=tuple(components),
        savings=by_rule(one for source in inventory.wheels() for one in source.left_out),
        components_without_report=inventory.unknown,
    )


def table(sizes: Sizes) -> Iterator[str]:
    """Yield the lines that people read: components, their largest packages, the diet's savings."""
    yield _row("component", "files", "bytes")
    for component in sizes.components:
        yield _row(component.name, component.files, component.size)
        for share in component.packages[:MOST] if len(component.packages) > 1 else ():
            yield _row(f"  {share.label}", share.files, share.size)
        if rest := component.packages[MOST:]:
            files, size = sum(share.files for share in rest), sum(share.size for share in rest)
            yield _row(f"  {len(rest)} more", files, size)
    yield _row("all", sizes.files, sizes.size)
    if sizes.savings:
        yield ""
        yield _row(f"left out by the profile {sizes.profile}", "files", "bytes")
        for saving in sizes.savings:
            row = _row(f"  {saving.rule}", saving.files, saving.size)
            yield f"{row}  {saving.reason}"
        files = sum(saving.files for saving in sizes.savings)
        yield _row("all", files, sum(saving.size for saving in sizes.savings))


def _row(name: str, files: int | str, size: int | str) -> str:
    counts = [value if isinstance(value, str) else f"{value:,}" for value in (files, size)]
    return f"{name:44}{counts[0]:>9}{counts[1]:>16}"


SAVES_COMMAND = "python3 build size --saves"


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
                next_step=f"paste what this prints: {SAVES_COMMAND}",
            )
    return found


def stale(recipe: Recipe, sizes: Sizes) -> tuple[str, ...]:
    """Return in words which recorded figures are not those of a bundle. Raises UsageError.

    `sizes` must have been weighed with a whole report.
    """
    return tuple(
        f"{name}: {saves.get(sizes.target, 'no')} bytes in the recipe, "
        f"{measured or 0} in this bundle for {sizes.target}"
        for name, saves, measured in _told(recipe, sizes)
        if not saves or saves.get(sizes.target) != measured
    )


def saves_entries(recipe: Recipe, sizes: Sizes) -> Iterator[str]:
    """Yield the lines that record the savings of a bundle in the recipe, rule by rule.

    Figures of other targets stay. A rule that has one for another target gets none for this one.
    Raises UsageError.
    """
    for name, saves, measured in _told(recipe, sizes):
        if measured is not None:
            both = {**saves, sizes.target: measured}
            figures = ", ".join(f"{target} = {both[target]:_}" for target in sorted(both))
            yield f"[diet.rules.{name}]"
            yield f"saves = {{ {figures} }}"


def _told(recipe: Recipe, sizes: Sizes) -> Iterator[tuple[str, Mapping[str, int], int | None]]:
    """Yield the rules whose figure is this bundle's to tell: name, records, what was measured."""
    rules = recipe.sections.get("diet", {}).get("rules", {})
    measured = {saving.rule: saving.size for saving in sizes.savings}
    for name, saves in recorded(recipe).items():
        if sizes.profile in rules[name]["profiles"] and (sizes.target in saves or not saves):
            yield name, saves, measured.get(name)


MOST_DRAWN = 8
WIDTH = 900
NAMES = 260
NUMBERS = 110
LINE = 22
BAR = 14
COLOURS = ("#3b6ea5", "#c46a2b", "#3f8f5b", "#8a5ba8", "#b3893a", "#6b6f76")
MEGABYTE = 1_000_000


def draw(sizes: Sizes) -> str:
    """Return an SVG with one bar per component and for its largest packages, to one scale."""
    rows = list(_rows(sizes))
    height = (len(rows) + 2) * LINE
    largest = max((size for _, _, size, _ in rows), default=0) or 1
    title = (
        f"{sizes.target}, profile {sizes.profile}: {_megabytes(sizes.size)}, {sizes.files} files"
    )
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="{LINE}" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, is_component, size, colour) in enumerate(rows):
        top = (number + 1) * LINE + LINE // 2
        base = top + BAR - 2
        # Whole pixels: nothing here depends on how a machine rounds.
        length = max(1, (WIDTH - NAMES - NUMBERS) * size // largest)
        indent, weight, opacity = (10, "bold", "1") if is_component else (26, "normal", "0.6")
        look = f'fill="{colour}" fill-opacity="{opacity}"'
        lines += [
            f'<text x="{indent}" y="{base}" font-weight="{weight}">{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{top}" width="{length}" height="{BAR}" {look}/>',
            f'<text x="{NAMES + length + 6}" y="{base}">{_megabytes(size)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _rows(sizes: Sizes) -> Iterator[tuple[str, bool, int, str]]:
    """Yield each bar: its name, whether it is a component, its bytes, its colour."""
    for number, component in enumerate(sizes.components):
        colour = COLOURS[number % len(COLOURS)]
        yield component.name, True, component.size, colour
        for share in component.packages[:MOST_DRAWN] if len(component.packages) > 1 else ():
            yield share.label, False, share.size, colour


def _megabytes(size: int) -> str:
    tenths = (size * 10 + MEGABYTE // 2) // MEGABYTE
    return f"{tenths // 10}.{tenths % 10} MB"
