"""What bundles weigh: the figures that need no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.bench.ratios import Figure, Unit
from sidecar.manifest import ManifestError, read

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = "bundles"
MODELS = "models"
ELSEWHERE = "needs containers: ci/measure-image measures it"


def weigh(lean: Path, none: Path, twin: Path | None) -> list[Figure]:
    """Return the sizes of the lean bundle, against the one without a diet, and with a twin inside.

    `twin` is a snapshot with weights in half. What is not there gives a figure that says so.
    """
    lean_size, none_size = _without_models(lean), _without_models(none)
    figures = [
        _figure(
            "lean-of-none",
            "installed size, lean against none, models left out",
            "ratio",
            lean_size / none_size if lean_size and none_size else None,
            _why((lean, lean_size), (none, none_size)),
        )
    ]
    inside = _size(twin) if twin is not None else None
    figures.append(
        _figure(
            "lean-with-twin",
            "lean bundle with the large twin in half precision",
            "bytes",
            lean_size + inside if lean_size and inside else None,
            _why((lean, lean_size)) or "needs --twin",
        )
    )
    title = "compressed image without models, lean against a naive one"
    figures.append(_figure("image-of-naive", title, "ratio", None, ELSEWHERE))
    return figures


def _figure(name: str, title: str, unit: Unit, value: float | None, why: str) -> Figure:
    return Figure(
        subject=SUBJECT,
        name=name,
        title=title,
        unit=unit,
        value=value,
        why="" if value is not None else why,
    )


def _without_models(bundle: Path) -> int | None:
    """Return the bytes of a bundle less its models, by its manifest; None if there is none."""
    try:
        components = read(bundle).components
    except (OSError, ManifestError):
        return None
    return sum(component.size for component in components if component.name != MODELS)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _why(*bundles: tuple[Path, int | None]) -> str:
    absent = [bundle.name for bundle, size in bundles if size is None]
    return f"there is no bundle {', '.join(absent)}" if absent else ""
