"""NOTICES.txt: every package, every text once, the same bytes from any order."""

from __future__ import annotations

import itertools

from bundler.assembly import licences
from bundler.assembly.licences import LicensedPart

APACHE = b"\n                   Apache License\n             Version 2.0, January 2004\n\nTerms.\n"


def package(name: str, expression: str = "MIT", **texts: bytes) -> LicensedPart:
    return LicensedPart(
        name=name,
        version="1.0",
        expression=expression,
        texts=texts,
    )


def test_packages_are_listed_with_licences_and_whole_texts() -> None:
    text = licences.render_notices(
        [package("b", LICENSE=b"Terms of b.\n"), package("A", "Zlib", COPYING=b"Terms of A.\n")]
    ).decode()
    listing, _, bodies = text.partition("Part 2: licence texts")
    assert listing.index("A 1.0\n  Licence: Zlib") < listing.index("b 1.0\n  Licence: MIT")
    assert "    [1] COPYING" in listing
    assert "    [2] LICENSE" in listing
    assert bodies.index("Terms of A.") < bodies.index("Terms of b.")


def test_a_text_that_two_packages_bring_stands_once_and_names_both() -> None:
    text = licences.render_notices(
        [package("a", LICENSE=b"Same terms.\r\n"), package("b", COPYING=b"Same terms.  \n\n")]
    ).decode()
    assert text.count("Same terms.") == 1
    assert "  a 1.0: LICENSE\n  b 1.0: COPYING\n" in text
    assert text.count("[1]") == 3


def test_the_order_of_the_packages_changes_nothing() -> None:
    packages = [package("c", LICENSE=b"c"), package("A", LICENSE=b"a"), package("b", LICENSE=b"a")]
    rendered = {licences.render_notices(order) for order in itertools.permutations(packages)}
    assert len(rendered) == 1


def test_the_file_is_utf_8_with_plain_line_ends() -> None:
    data = licences.render_notices(
        [
            package("a", LICENSE="\N{COPYRIGHT SIGN} Zoë\r\nof old\rtimes".encode()),
            package("b", LICENSE="Jérôme".encode("latin-1")),
            package("c", LICENSE=b"\xef\xbb\xbfmarked"),
        ]
    )
    text = data.decode("utf-8")
    assert b"\r" not in data
    assert "\N{COPYRIGHT SIGN} Zoë\nof old\ntimes" in text
    assert "Jérôme" in text
    assert "\ufeff" not in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_package_without_a_licence_text_says_so() -> None:
    text = licences.render_notices(
        [
            package("a", "Apache-2.0", LICENSE=APACHE),
            package("bare", "Apache-2.0"),
            package("other", "MIT"),
        ]
    ).decode()
    assert (
        "bare 1.0\n  Licence: Apache-2.0\n  Texts: the package brings none; Apache-2.0 is [1]"
        in text
    )
    assert "other 1.0\n  Licence: MIT\n  Texts: the package brings none\n" in text


def test_an_unknown_licence_is_told_with_what_was_declared() -> None:
    text = licences.render_notices(
        [LicensedPart(name="a", version="1", expression="", declared="ask us")]
    )
    assert "Licence: unknown (declared: ask us)" in text.decode()


MIT = b"MIT License\n\nCopyright (c) Somebody\n\nPermission is hereby granted, free of charge, to."
BSD = b"Redistribution and use in source and binary forms, with or without, are permitted.\n"
NAMES = b"3. Neither the name of the holder nor those of its contributors may be used.\n"


def inner(expression: str) -> str:
    """Return the lines on a library in CPython, beside packages that bring common licences."""
    text = licences.render_notices(
        [
            package("a", LICENSE=MIT),
            package("b", "BSD-2-Clause", LICENSE=BSD),
            package("c", "BSD-3-Clause", LICENSE=BSD + NAMES),
            package("d", "MIT AND ISC", LICENSE=MIT + b"more terms" * 200),
            LicensedPart(
                name="expat",
                version="",
                expression=expression,
                inside="CPython 3.11.17",
                copyright="2001 Its maintainers",
            ),
        ]
    ).decode()
    return text[text.index("expat, inside CPython 3.11.17") :].split("\n\n", 1)[0]


def test_inner_library_is_listed_with_holder_and_terms() -> None:
    assert inner("MIT").splitlines() == [
        "expat, inside CPython 3.11.17",
        "  Licence: MIT",
        "  Copyright: 2001 Its maintainers",
        "  Texts: the package brings none; its terms are those of [1]",
    ]
    assert inner("BSD-2-Clause").endswith("its terms are those of [2]")
    assert inner("BSD-3-Clause").endswith("its terms are those of [3]")


def test_terms_that_no_package_brings_are_named_by_their_page() -> None:
    assert inner("blessing").endswith("none; https://spdx.org/licenses/blessing.html has it")
    assert inner("LicenseRef-Own").endswith("  Texts: the package brings none")
    assert inner("GPL-3.0-only WITH GCC-exception-3.1").endswith("the package brings none")
