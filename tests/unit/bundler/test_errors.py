from __future__ import annotations

import inspect
import re

import pytest

from bundler import errors as builder
from bundler.errors import BundlerError, UsageError
from sidecar import errors as service


def codes(module: object, root: type[BundlerError | service.ServiceError]) -> dict[str, int]:
    return {
        name: kind.exit_code
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, root)
    }


BUILDER = codes(builder, BundlerError)
SERVICE = codes(service, service.ServiceError)


def test_each_kind_of_failure_has_an_exit_code_of_its_own() -> None:
    assert sorted(BUILDER.values()) == list(range(1, 12))
    assert len(set(SERVICE.values())) == len(SERVICE)


def test_the_service_means_the_same_by_a_code_as_the_builder() -> None:
    shared = {name: code for name, code in SERVICE.items() if name != "ServiceError"}
    assert shared.items() <= BUILDER.items()
    assert SERVICE["ServiceError"] == BUILDER["BundlerError"] == 1


@pytest.mark.parametrize("module", [builder, service])
def test_the_table_in_the_docstring_is_the_code(module: object) -> None:
    listed = {
        name: int(code)
        for name, code in re.findall(r"^(?:\+ )?(\w+) +(\d+) ", module.__doc__ or "", re.MULTILINE)
    }
    assert listed == (BUILDER if module is builder else SERVICE)


def test_a_failure_says_what_why_and_what_next() -> None:
    error = UsageError("it is wrong", why="you said so", next_step="say otherwise")
    assert error.render() == "error: it is wrong\n  why: you said so\n  next: say otherwise"
    assert UsageError("it is wrong").render() == "error: it is wrong"
    assert str(error) == "it is wrong"
