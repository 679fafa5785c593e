"""The page that lies beside the files we write: what each is, and what to add to an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.electron import payload as payloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bundler.electron.fragment import Place
    from bundler.electron.payload import Payload


def render(
    template: str,
    place: Place,
    weighed: Sequence[Payload],
    *,
    made_for: str,
    signing: Sequence[str],
) -> str:
    """Return the page as Markdown: `template` with its fields filled in."""
    return template.format(
        made_for=made_for,
        integration=place.integration,
        bundles=place.bundles,
        suffix=place.suffix,
        signing="\n".join(f"- {line}" for line in signing),
        sizes="\n".join(payloads.table(weighed)),
        findings="\n".join(f"- {line}" for one in weighed for line in payloads.findings(one)),
    )
