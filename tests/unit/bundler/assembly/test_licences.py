"""Which licence a package comes under, what it brings along, and what the recipe refuses."""

from __future__ import annotations

import tomllib

import pytest

from bundler.assembly import licences
from bundler.assembly.licences import LicencePolicy, LicensedPart, Ruling
from bundler.digests import Artifact, Digest
from bundler.errors import PolicyError, UsageError

WHEEL = Artifact(name="some_package-1.2-py3-none-any.whl", digest=Digest(sha256="a" * 64))
POLICY = LicencePolicy(
    allowed=frozenset({"MIT", "BSD-3-Clause", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"}),
    spellings={
        "Apache 2.0 License": "Apache-2.0",
        "License :: OSI Approved :: MIT License": "MIT",
        "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    },
    rulings={
        "vague-one": Ruling(expression="BSD-3-Clause", reason="its text is the three-clause one"),
        "mixed": Ruling(allowed=frozenset({"LGPL-2.1-or-later"}), reason="a replaceable library"),
    },
)


def dist_info(*headers: str, **files: bytes) -> dict[str, bytes]:
    """Return the files of a .dist-info folder; in a file's name __ is a slash."""
    head = ["Metadata-Version: 2.4", "Name: Some_Package", "Version: 1.2", *headers]
    if any(line.startswith("Name:") for line in headers):
        head.remove("Name: Some_Package")
    metadata = "\n".join(head) + "\n\nlong text\n"
    return {name.replace("__", "/"): data for name, data in files.items()} | {
        "METADATA": metadata.encode()
    }


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param(["License-Expression: mit or apache-2.0"], "MIT OR Apache-2.0", id="PEP 639"),
        pytest.param(["License: BSD-3-Clause"], "BSD-3-Clause", id="SPDX in the older field"),
        pytest.param(["License: Apache 2.0 License"], "Apache-2.0", id="a known spelling"),
        pytest.param(
            ["Classifier: License :: OSI Approved :: MIT License"], "MIT", id="a classifier"
        ),
        pytest.param(
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: Apache Software License",
            ],
            "MIT AND Apache-2.0",
            id="two classifiers bind together",
        ),
        pytest.param(
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: BSD License",
            ],
            "",
            id="one classifier too vague",
        ),
        pytest.param(["License: BSD"], "", id="too vague to be one licence"),
        pytest.param(["Name: Vague.One", "License: BSD"], "BSD-3-Clause", id="a ruling"),
        pytest.param([], "", id="nothing"),
    ],
)
def test_the_licence_is_read_from_the_best_that_the_metadata_says(
    headers: list[str], expected: str
) -> None:
    assert licences.read(dist_info(*headers), POLICY, WHEEL).expression == expected


def test_what_the_metadata_says_is_kept_word_for_word_by_its_first_line() -> None:
    folder = dist_info("License: Copyright (c) the authors", "        All rights.")
    package = licences.read(folder, POLICY, WHEEL)
    assert (package.name, package.version) == ("Some_Package", "1.2")
    assert package.declared == "Copyright (c) the authors"


def test_licences_notices_and_sboms_are_taken_along_from_both_places() -> None:
    folder = dist_info(
        "License-Expression: MIT",
        LICENSE=b"beside",
        RECORD=b"no licence",
        licenses__LICENCE=b"below",
        licenses__third_party__x__terms=b"deep",
        sboms__inside=b"{}",
    )
    package = licences.read(folder, POLICY, WHEEL)
    assert package.texts == {
        "LICENSE": b"beside",
        "licenses/LICENCE": b"below",
        "licenses/third_party/x/terms": b"deep",
    }
    assert package.sboms == {"sboms/inside": b"{}"}


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "MIT AND BSD-3-Clause",
        "MIT OR GPL-3.0-only",
        "GPL-3.0-only OR (GPL-2.0-only OR Apache-2.0)",
        "Apache-2.0 WITH LLVM-exception AND MIT",
    ],
)
def test_an_expression_passes_if_some_choice_of_it_is_allowed(expression: str) -> None:
    licences.require_allowed([LicensedPart(name="a", version="1", expression=expression)], POLICY)


@pytest.mark.parametrize(
    ("expression", "denied"),
    [
        ("GPL-3.0-only", "GPL-3.0-only"),
        ("MIT AND GPL-3.0-only", "GPL-3.0-only"),
        ("BSD-3-Clause WITH LLVM-exception", "BSD-3-Clause WITH LLVM-exception"),
        ("GPL-3.0-only OR (MIT AND MPL-2.0)", "GPL-3.0-only"),
        ("LGPL-2.1-or-later", "LGPL-2.1-or-later"),
    ],
)
def test_a_licence_that_is_not_allowed_exits_7_and_names_the_package(
    expression: str, denied: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        licences.require_allowed(
            [LicensedPart(name="a", version="1", expression=expression)], POLICY
        )
    assert caught.value.exit_code == 7
    assert caught.value.why == f"a 1: {denied} is not allowed"


def test_an_unknown_licence_is_refused_with_what_the_metadata_says() -> None:
    packages = [
        LicensedPart(name="b", version="2", expression=""),
        LicensedPart(name="A", version="1", expression="", declared="see the website"),
    ]
    with pytest.raises(PolicyError) as caught:
        licences.require_allowed(packages, POLICY)
    assert caught.value.why.splitlines() == [
        "A 1: the licence is unknown, its metadata says 'see the website'",
        "b 2: the licence is unknown, it says none",
    ]


def test_a_ruling_allows_a_licence_for_one_package_only() -> None:
    expression = "MIT AND LGPL-2.1-or-later"
    licences.require_allowed(
        [LicensedPart(name="Mixed", version="1", expression=expression)], POLICY
    )
    with pytest.raises(PolicyError, match="1 licences are refused"):
        licences.require_allowed(
            [LicensedPart(name="c", version="1", expression=expression)], POLICY
        )


def test_the_recipe_s_table_becomes_a_policy() -> None:
    text = """
    allowed = ["mit", "Apache-2.0 with LLVM-exception"]
    [spellings]
    "MIT License" = "MIT"
    [[package]]
    name = "Vague_One"
    expression = "BSD-3-Clause"
    allow = ["MPL-2.0"]
    reason = "read it"
    """
    assert licences.from_recipe(tomllib.loads(text)) == LicencePolicy(
        allowed=frozenset({"MIT", "Apache-2.0 WITH LLVM-exception"}),
        spellings={"MIT License": "MIT"},
        rulings={
            "vague-one": Ruling(
                expression="BSD-3-Clause", allowed=frozenset({"MPL-2.0"}), reason="read it"
            )
        },
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('allowed = ["BSD"]', "'BSD' is no SPDX expression"),
        ('[[package]]\nname = "a"\nexpression = "MIT"', "the ruling on a has no reason"),
    ],
)
def test_a_table_with_a_licence_nobody_knows_or_no_reason_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        licences.from_recipe(tomllib.loads(text))
    assert caught.value.why == why


def test_a_library_inside_another_thing_is_named_by_that() -> None:
    found = LicensedPart(name="db", version="", expression="GPL-3.0-only", inside="CPython 3.11.17")
    with pytest.raises(PolicyError) as caught:
        licences.require_allowed([found], POLICY)
    assert caught.value.why == "db, inside CPython 3.11.17: GPL-3.0-only is not allowed"


REFUSING = LicencePolicy(allowed=frozenset(), refused=("AGPL-*", "Sleepycat"))


@pytest.mark.parametrize(
    ("expression", "denied"),
    [
        ("Sleepycat", "Sleepycat"),
        ("MIT AND AGPL-3.0-only", "AGPL-3.0-only"),
        ("agpl-3.0-or-later", "AGPL-3.0-or-later"),
        ("(AGPL-3.0-only OR Sleepycat) AND MIT", "AGPL-3.0-only"),
        ("the Sleepycat licence", "Sleepycat"),
    ],
)
def test_a_refused_licence_is_named_wherever_it_is_demanded(expression: str, denied: str) -> None:
    with pytest.raises(PolicyError, match="are refused in every file") as caught:
        licences.require_none_refused([("a", "MIT"), ("b", expression)], REFUSING)
    assert caught.value.exit_code == 7
    assert caught.value.why.removeprefix("b: ").lower() == denied.lower()


@pytest.mark.parametrize("expression", ["", "MIT OR AGPL-3.0-only", "LGPL-2.1-or-later", "BSD"])
def test_a_licence_that_may_be_chosen_otherwise_is_not_refused(expression: str) -> None:
    licences.require_none_refused([("a", expression)], REFUSING)
