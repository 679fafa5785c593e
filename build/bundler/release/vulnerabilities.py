"""Known vulnerabilities of what a bill of materials lists, asked of an OSV database.

Source: the OSV API, version 1, `querybatch`. Only names and versions of public packages are sent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2

from bundler.artifacts.network import reason
from bundler.bootstrap import connection
from bundler.bootstrap.connection import shown
from bundler.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bundler.artifacts.network import Network

# The kinds of packages that an OSV database has; it refuses a batch that names another.
KNOWN = ("pkg:pypi/", "pkg:npm/", "pkg:cargo/", "pkg:golang/")
BATCH = 500
MOST_PAGES = 50


def purls(sbom: Path) -> tuple[str, ...]:
    """Return the package URL of everything listed that a database could know, inner parts too.

    Qualifiers are left out. Raises UsageError.
    """
    try:
        document = json.loads(sbom.read_text(encoding="utf-8"))
        found = sorted(set(_purls(document["components"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{sbom} is not a bill of materials in CycloneDX",
            why=str(error),
            next_step="name sbom.cdx.json of a bundle",
        ) from error
    return tuple(found)


def _purls(components: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for component in components:
        purl = component.get("purl", "").partition("#")[0].partition("?")[0]
        if purl.startswith(KNOWN):
            yield purl
        yield from _purls(component.get("components", ()))


def ask(names: Sequence[str], address: str, network: Network) -> list[tuple[str, str]]:
    """Return what the database at `address` knows of `names`, in their order: of which, and what.

    Raises UnreachableError if it does not answer, or not to the point.
    """
    found: set[tuple[str, str]] = set()
    waiting = [{"package": {"purl": name}} for name in names]
    pages = 0
    with network.client() as client:
        while waiting:
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            pages += 1
            try:
                answer = client.post(address, json={"queries": batch})
                answer.raise_for_status()
                for query, result in list(zip(batch, answer.json()["results"], strict=True)):
                    purl = query["package"]["purl"]
                    found |= {(purl, str(entry["id"])) for entry in result.get("vulns", ())}
                    if token := result.get("next_page_token"):
                        waiting.append({**query, "page_token": token})
            except httpx2.HTTPError as error:
                raise _silent(address, reason(error, network)) from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _silent(address, f"its answer is no OSV answer ({error})") from error
            if pages > MOST_PAGES:
                raise _silent(address, f"it has more than {MOST_PAGES} pages to tell")
    order = {name: at for at, name in enumerate(names)}
    return sorted(found, key=lambda one: (order[one[0]], one[1]))


def _silent(address: str, why: str) -> UnreachableError:
    return UnreachableError(
        "the database of vulnerabilities did not answer",
        why=f"{shown(address)}: {why}",
        next_step=connection.next_step(
            why, "run where it can be reached, or name another one with --address"
        ),
    )
