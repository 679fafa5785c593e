"""What we want each figure to be. Data: nothing fails where a figure is another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SMALL = ("minilm", "minilm-l6")
LARGE = ("xlmr-base",)
ANY = (*SMALL, *LARGE)
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """The bound of a figure for the models in `subjects`, which it is set for."""

    figure: str
    is_least: bool
    bound: float
    subjects: tuple[str, ...] = SMALL

    def is_met(self, value: float) -> bool:
        """Return whether `value` keeps to the bound."""
        return value >= self.bound if self.is_least else value <= self.bound

    @property
    def sign(self) -> Literal["≥", "≤"]:
        """Which side of the bound is wanted."""
        return "≥" if self.is_least else "≤"


AIMS = (
    Aim(figure="start", is_least=False, bound=0.25),
    Aim(figure="port", is_least=False, bound=1.0, subjects=ANY),
    Aim(figure="whole", is_least=True, bound=1.8),
    Aim(figure="requests", is_least=True, bound=3.0),
    Aim(figure="crowd", is_least=True, bound=0.8),
    Aim(figure="single", is_least=False, bound=0.5),
    Aim(figure="beside", is_least=False, bound=4.0),
    Aim(figure="ceiling", is_least=True, bound=0.75, subjects=LARGE),
    Aim(figure="private", is_least=False, bound=250 * MEGABYTE),
    Aim(figure="private", is_least=False, bound=600 * MEGABYTE, subjects=LARGE),
    Aim(figure="int8", is_least=True, bound=1.7, subjects=LARGE),
    Aim(figure="json", is_least=False, bound=0.1, subjects=ANY),
    Aim(figure="lean-of-none", is_least=False, bound=0.25, subjects=("bundles",)),
    Aim(figure="lean-with-twin", is_least=False, bound=900 * MEGABYTE, subjects=("bundles",)),
    Aim(figure="image-of-naive", is_least=False, bound=0.35, subjects=("bundles",)),
)


def aim(figure: str, subject: str) -> Aim | None:
    """Return the aim of `figure` for that model, None if there is none."""
    return next((a for a in AIMS if a.figure == figure and subject in a.subjects), None)
