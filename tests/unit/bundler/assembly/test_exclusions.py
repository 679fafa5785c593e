from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bundler.assembly import exclusions
from bundler.assembly.build_report import LeftOut
from bundler.assembly.exclusions import apply, matches, takes
from bundler.errors import UsageError
from bundler.profiles import DietRule, parse_rules, rules_for
from bundler.targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path

RULE: dict[str, Any] = {
    "package": "Big_Package",
    "paths": ["big/tests/**"],
    "profiles": ["safe"],
    "reason": "tests",
}


def parsed(**changes: Any) -> tuple[DietRule, ...]:
    return parse_rules({"profiles": ["none", "safe"], "rules": {"one": {**RULE, **changes}}})


@pytest.mark.parametrize(
    ("path", "glob", "is_named"),
    [
        ("a/b.py", "a/*", True),
        ("a/b/c.py", "a/*", False),
        ("a/b/c.py", "a/**", True),
        ("a/tests/x", "a/**/tests/**", True),
        ("a/b/c/tests/x", "a/**/tests/**", True),
        ("a/mytests/x", "a/**/tests/**", False),
        ("lib.so.1", "lib.so*", True),
        ("libxso", "lib.so", False),
        ("a1", "a?", True),
        ("a/", "a?", False),
        ("x/a/b", "a/**", False),
        ("a+(b)", "a+(b)", True),
    ],
)
def test_globs_name_what_they_say(path: str, glob: str, is_named: bool) -> None:
    assert matches(path, glob) is is_named


def test_a_rule_is_read_with_its_package_in_canonical_spelling() -> None:
    (rule,) = parsed(keep=["big/tests/data.py"])
    assert rule.package == "big-package"
    assert rule.action == "remove"
    assert takes(rule, "big/tests/test_x.py")
    assert not takes(rule, "big/tests/data.py")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": "burn"}, "has the action 'burn'"),
        ({"profiles": ["lean"]}, "is for the profile 'lean'"),
        ({"paths": "big/**"}, "paths that is no list"),
        ({"keep": "big/**"}, "keep that is no list"),
        ({"targets": "linux"}, "targets that is no list"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=f"diet rule one .*{message}"):
        parsed(**changes)


def test_a_rule_must_say_why() -> None:
    with pytest.raises(UsageError, match="lacks 'reason'"):
        parse_rules({"rules": {"one": {"package": "a", "paths": [], "profiles": []}}})


@pytest.mark.parametrize(
    ("targets", "takes_part"),
    [([], True), (["linux"], True), (["linux-x64"], True), (["linux-arm64"], False)],
)
def test_rules_are_those_of_the_profile_the_target_and_the_packages(
    targets: list[str], takes_part: bool
) -> None:
    rules = parsed(targets=targets)
    packages = frozenset({"big-package"})
    target = TARGETS["linux-x64"]
    found = rules_for(rules, profile="safe", target=target, packages=packages)
    assert bool(found) is takes_part
    assert rules_for(rules, profile="none", target=target, packages=packages) == ()
    assert rules_for(rules, profile="safe", target=target, packages=frozenset({"b"})) == ()


def test_removing_tells_what_went_and_leaves_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "big/tests").mkdir(parents=True)
    for name in ("big/tests/a.py", "big/tests/keep.py", "big/code.py"):
        (tmp_path / name).write_bytes(b"12345")
    files = ["big/tests/keep.py", "big/tests/a.py", "big/code.py"]
    (rule,) = parsed(keep=["big/tests/keep.py"])
    assert apply(tmp_path, files, [rule]) == (LeftOut(rule=rule, path="big/tests/a.py", size=5),)
    assert sorted(path.name for path in tmp_path.rglob("*.py")) == ["code.py", "keep.py"]


def test_files_nobody_named_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "big/tests").mkdir(parents=True)
    (tmp_path / "big/tests/other.py").write_bytes(b"x")
    assert apply(tmp_path, [], parsed()) == ()
    assert (tmp_path / "big/tests/other.py").exists()


def test_a_removed_file_is_not_stripped_and_a_stripped_one_tells_its_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strip(path: Path) -> bool:
        path.write_bytes(b"1")
        return True

    monkeypatch.setattr(exclusions, "strip_symbols", strip)
    for name in ("a.so", "b.so"):
        (tmp_path / name).write_bytes(b"12345")
    remove = parsed(paths=["a.so"])
    both = remove + parsed(paths=["*.so"], action="strip")
    assert [(s.path, s.size) for s in apply(tmp_path, ["b.so", "a.so"], both)] == [
        ("a.so", 5),
        ("b.so", 4),
    ]
