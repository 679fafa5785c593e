"""Kubernetes' own description of its objects, read strictly: an unknown field is an error, too."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Mapping


class Strict:
    """The base of every model: pydantic reads its configuration there."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


def _field(*, metadata: Mapping[str, str], **shape: Any) -> Any:
    """Return the field of a name that Python has a meaning for, as `from`."""
    return dataclasses.field(metadata={"alias": metadata["json"]}, **shape)


# The package `lightkube-models` holds nothing but models, generated from Kubernetes' OpenAPI
# document. Their base and decorator are of a client that we have no use for.
_SCHEMA = ModuleType("lightkube.core.schema")
vars(_SCHEMA).update(DictMixin=Strict, field=_field, dataclass=dataclasses.dataclass)
sys.modules.setdefault("lightkube.core", ModuleType("lightkube.core"))
sys.modules.setdefault("lightkube.core.schema", _SCHEMA)

from lightkube.models import apps_v1, core_v1, networking_v1, policy_v1  # noqa: E402

MODELS = {
    ("apps/v1", "Deployment"): apps_v1.Deployment,
    ("networking.k8s.io/v1", "NetworkPolicy"): networking_v1.NetworkPolicy,
    ("policy/v1", "PodDisruptionBudget"): policy_v1.PodDisruptionBudget,
    ("v1", "PersistentVolumeClaim"): core_v1.PersistentVolumeClaim,
    ("v1", "Service"): core_v1.Service,
}


def check(document: Mapping[str, Any]) -> None:
    """Raise pydantic's ValidationError for what is no object, KeyError for one of another kind."""
    model = MODELS[document["apiVersion"], document["kind"]]
    TypeAdapter(model).validate_json(json.dumps(document))


def check_template(document: Mapping[str, Any]) -> None:
    """Raise pydantic's ValidationError for what is no template of a pod."""
    TypeAdapter(core_v1.PodTemplateSpec).validate_json(json.dumps(document))
