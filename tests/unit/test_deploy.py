"""The objects for a cluster: what Kubernetes takes, and what the service understands."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]
from jsonschema import (  # type: ignore[import-untyped]
    Draft202012Validator,
    ValidationError,
)
from kubernetes_validate.utils import all_versions, validate
from packaging.version import Version

from bundler.images.image import USER
from bundler.images.layers import PLACE
from sidecar import cli
from sidecar.batch import ray_environment
from sidecar.process import credentials
from sidecar.scheduling.inference import STUCK_S
from sidecar.settings import Limits, Settings
from tests.support.stub_engine import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
FILES = sorted(FOLDER.rglob("*.yaml"))
NAMESPACE, TOKEN = "search", "0123456789abcdef" * 2
SHOWN = {"authorization": f"Bearer {TOKEN}"}
ENDS_WITHIN_S = 5  # docs/lifecycle.md
PROPAGATES_WITHIN_S = 5


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object without other fields."""
    shape = {"type": "object", "additionalProperties": False}
    return {**shape, "required": list(required), "properties": properties}


TEXT, NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}
LABELS = {"type": "object", "additionalProperties": TEXT}
# As KEDA's source has them: ScaledObjectSpec, ScaleTriggers, Fallback, and the metadata of the
# Prometheus scaler, whose values are strings all. Fields that are not used here are left out.
SCALED_OBJECT = closed(
    *("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata=closed("name", name=TEXT, labels=LABELS),
    spec=closed(
        *("scaleTargetRef", "triggers"),
        scaleTargetRef=closed("name", name=TEXT, apiVersion=TEXT, kind=TEXT),
        pollingInterval=NUMBER,
        cooldownPeriod=NUMBER,
        minReplicaCount=NUMBER,
        maxReplicaCount=NUMBER,
        fallback=closed(
            *("failureThreshold", "replicas"),
            failureThreshold=NUMBER,
            replicas=NUMBER,
            behavior={
                "enum": [
                    *("static", "currentReplicas"),
                    *("currentReplicasIfHigher", "currentReplicasIfLower"),
                ]
            },
        ),
        triggers={
            "type": "array",
            "items": closed(
                *("type", "metadata"),
                type={"const": "prometheus"},
                name=TEXT,
                metadata=closed(
                    *("serverAddress", "query", "threshold"),
                    serverAddress=TEXT,
                    query=TEXT,
                    threshold=TEXT,
                    activationThreshold=TEXT,
                    ignoreNullValues={"enum": ["true", "false"]},
                ),
            ),
        },
    ),
)
# As kustomize's source has them: Kustomization, Image, Patch, Selector.
KUSTOMIZATION = closed(
    *("apiVersion", "kind", "resources"),
    apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
    kind={"const": "Kustomization"},
    resources={"type": "array", "items": TEXT},
    images={
        "type": "array",
        "items": closed("name", name=TEXT, newName=TEXT, newTag=TEXT, digest=TEXT),
    },
    patches={
        "type": "array",
        "items": closed(patch=TEXT, path=TEXT, target=closed(kind=TEXT, name=TEXT)),
    },
)
# As the definitions of KubeRay 1.7 have them: RayJobSpec, RayClusterSpec, AuthOptions,
# HeadGroupSpec, WorkerGroupSpec, whose templates are Kubernetes' own. Ray's parameters are strings.
NODES = {
    "rayStartParams": {"type": "object", "additionalProperties": TEXT},
    "template": {"type": "object"},
}
RAY_JOB = closed(
    *("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed("name", name=TEXT, labels=LABELS),
    spec=closed(
        *("entrypoint", "rayClusterSpec"),
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        entrypoint=TEXT,
        backoffLimit=NUMBER,
        activeDeadlineSeconds=NUMBER,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=NUMBER,
        rayClusterSpec=closed(
            "headGroupSpec",
            rayVersion=TEXT,
            authOptions=closed(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
            headGroupSpec=closed("template", **NODES),
            workerGroupSpecs={
                "type": "array",
                "items": closed(
                    *("groupName", "maxReplicas", "minReplicas", "template"),
                    groupName=TEXT,
                    replicas=NUMBER,
                    minReplicas=NUMBER,
                    maxReplicas=NUMBER,
                    **NODES,
                ),
            },
        ),
    ),
)
OTHERS = {"ScaledObject": SCALED_OBJECT, "Kustomization": KUSTOMIZATION, "RayJob": RAY_JOB}
NEEDED = re.search(
    r"^Needs Kubernetes ([\d.]+)", (ROOT / "docs/kubernetes.md").read_text("utf-8"), re.MULTILINE
)
VERSIONS = [one for one in all_versions() if NEEDED and Version(one) >= Version(NEEDED[1])]


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture
def deployment() -> dict[str, Any]:
    found: dict[str, Any] = read("service/deployment.yaml")
    return found


@pytest.fixture
def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


def ray_groups() -> list[dict[str, Any]]:
    """Return the groups of a Ray cluster, the head's first."""
    spec = read("cluster/rayjob.yaml")["spec"]["rayClusterSpec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pods_of_ray() -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in ray_groups()]


def size_of(quantity: str) -> int:
    """Return the bytes of what Kubernetes writes as 512Mi or 4Gi."""
    number, unit = int(quantity[:-2]), quantity[-2:]
    return number << {"Mi": 20, "Gi": 30}[unit]


def words(container: dict[str, Any], address: str = "10.1.2.3") -> list[str]:
    """Return the arguments as Kubernetes passes them, its variables filled in."""
    paths = {"metadata.namespace": NAMESPACE, "status.podIP": address}
    values = {
        variable["name"]: paths[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        for variable in container["env"]
        if "fieldRef" in variable["valueFrom"]
    }
    return [
        re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], one) for one in container["args"]
    ]


def settings(container: dict[str, Any], address: str = "10.1.2.3") -> Settings:
    made = cli.parser().parse_args(words(container, address))
    return cli.settings_from(made, bundle=None)


def check(document: Any) -> None:
    """Raise ValidationError for what is no object of every Kubernetes since the first it needs."""
    assert VERSIONS
    for version in VERSIONS:
        validate(document, version, strict=True)


def check_template(document: Any) -> None:
    """Raise ValidationError for what is no template of a pod."""
    check({"apiVersion": "v1", "kind": "PodTemplate", "template": document})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_has_the_fields_of_its_kind(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    schema = OTHERS.get(document["kind"])
    if schema is None:
        check(document)
    else:
        Draft202012Validator(schema).validate(document)


def test_every_schema_of_our_own_has_a_file() -> None:
    kinds = {yaml.safe_load(path.read_text(encoding="utf-8"))["kind"] for path in FILES}
    assert kinds >= OTHERS.keys()


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (["spec", "template", "spec", "containers", 0], "readOnlyFilesystem", True),
        (["spec", "template", "spec", "containers", 0, "ports", 0], "containerPort", "8421"),
        (["spec", "selector"], "matchLabels", ["sidecar"]),
        (["spec", "template", "spec", "containers", 0, "lifecycle", "preStop"], "sleep", 35),
    ],
)
def test_a_wrong_field_of_a_deployment_is_found(
    deployment: dict[str, Any], place: list[Any], key: str, value: object
) -> None:
    spoiled = inner = copy.deepcopy(deployment)
    for step in place:
        inner = inner[step]
    inner[key] = value
    check(deployment)
    with pytest.raises(ValidationError):
        check(spoiled)


def test_a_threshold_that_is_no_string_is_found() -> None:
    document = read("autoscaled/scaledobject.yaml")
    document["spec"]["triggers"][0]["metadata"]["threshold"] = 32768
    with pytest.raises(ValidationError, match="32768"):
        Draft202012Validator(SCALED_OBJECT).validate(document)


def test_kustomizations_list_every_file_and_name_the_image(container: dict[str, Any]) -> None:
    listed = []
    for path in FOLDER.rglob("kustomization.yaml"):
        resources = yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]
        listed += [path.parent / name for name in resources]
    files = {path for path in FILES if path.name != "kustomization.yaml"}
    assert {path for path in listed if path.suffix} == files
    assert [path.resolve() for path in listed if not path.suffix] == [FOLDER / "service"]
    used = {"service": {container["image"]}}
    used["cluster"] = {one["image"] for pod in pods_of_ray() for one in pod["containers"]}
    for folder, images in used.items():
        (image,) = read(f"{folder}/kustomization.yaml")["images"]
        assert {image["name"]} == images


def test_the_number_of_pods_is_kedas_alone(deployment: dict[str, Any]) -> None:
    (patch,) = read("autoscaled/kustomization.yaml")["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": deployment["metadata"]["name"]}
    (step,) = yaml.safe_load(patch["patch"])
    assert step == {"op": "remove", "path": "/spec/replicas"}
    assert "replicas" in deployment["spec"]  # a patch that removes nothing fails


def test_one_label_selects_the_pods_everywhere(deployment: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        read("service/service.yaml")["spec"]["selector"],
        read("service/poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"],
        read("service/networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
    ]
    assert selectors == [labels] * 5
    scaled = read("autoscaled/scaledobject.yaml")["spec"]["scaleTargetRef"]["name"]
    assert scaled == deployment["metadata"]["name"]


def test_ports_are_the_containers(container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    assert settings(container).port == port["containerPort"]
    (served,) = read("service/service.yaml")["spec"]["ports"]
    (rule,) = read("service/networkpolicy.yaml")["spec"]["ingress"]
    probed = [container[name]["httpGet"]["port"] for name in container if name.endswith("Probe")]
    assert {served["targetPort"], *(one["port"] for one in rule["ports"]), *probed} == {
        port["name"]
    }


def test_every_peer_of_the_policy_needs_the_label() -> None:
    spec = read("service/networkpolicy.yaml")["spec"]
    (rule,) = spec["ingress"]
    for peer in rule["from"]:
        assert peer["podSelector"]["matchLabels"] == {"sidecar-client": "true"}
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert spec["egress"] == []


def test_arguments_are_options_of_the_service_in_each_image(container: dict[str, Any]) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    assert found
    entrypoint = json.loads(found[1])
    own = entrypoint[entrypoint.index("/opt/sidecar/embedding_sidecar") + 1 :]
    alone = settings(container)
    behind = cli.settings_from(cli.parser().parse_args([*own, *words(container)]), bundle=None)
    for made in (alone, behind):
        assert (made.host, made.port) == ("0.0.0.0", 8421)
        assert made.allow_hosts == alone.allow_hosts


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::17"])
def test_the_services_names_and_its_address_are_answered(
    container: dict[str, Any], address: str
) -> None:
    name = read("service/service.yaml")["metadata"]["name"]
    hosts = [name, f"{name}.{NAMESPACE}", f"{name}.{NAMESPACE}.svc"]
    hosts += [f"{name}.{NAMESPACE}.svc.cluster.local"]
    hosts += [f"[{address}]" if ":" in address else address]
    served = Served(Settings(host="0.0.0.0", allow_hosts=settings(container, address).allow_hosts))
    try:
        answers = {
            host: served.get("/metrics", headers={"host": f"{host}:8421"}).status_code
            for host in (*hosts, "elsewhere")
        }
    finally:
        served.close()
    assert answers == {**dict.fromkeys(hosts, 200), "elsewhere": 421}


def test_the_token_is_the_secrets_or_no_container_starts(container: dict[str, Any]) -> None:
    (found,) = [one for one in container["env"] if one["name"] == credentials.VARIABLE]
    assert found["valueFrom"]["secretKeyRef"] == {"name": "sidecar-token", "key": "token"}


def test_pods_are_restricted_and_run_as_the_images_user(pod: dict[str, Any]) -> None:
    for one in (pod, *pods_of_ray()):
        found = one["securityContext"]
        assert f"{found['runAsUser']}:{found['runAsGroup']}" == USER
        assert found["runAsNonRoot"] is True
        assert found["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = one["containers"]
        own = container["securityContext"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
        assert one["automountServiceAccountToken"] is False


def test_a_pod_stops_once_its_connections_are_old(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    bounds = settings(container).bounds
    waits_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert waits_s >= bounds.max_age_s + bounds.idle_s + PROPAGATES_WITHIN_S
    assert pod["terminationGracePeriodSeconds"] > waits_s + ENDS_WITHIN_S


def test_keda_adds_pods_before_requests_are_refused() -> None:
    spec = read("autoscaled/scaledobject.yaml")["spec"]
    assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    (trigger,) = spec["triggers"]
    assert 0 < int(trigger["metadata"]["threshold"]) < Limits().max_queued_tokens
    surface = (ROOT / "tests" / "surface.txt").read_text(encoding="utf-8")
    metrics = set(re.findall(r"^metric: gauge (\w+)", surface, re.MULTILINE))
    used = set(re.findall(r"\bsidecar_\w+", trigger["metadata"]["query"]))
    assert used == {"sidecar_queued_tokens"}
    assert used <= metrics


def asked(served: Served, container: dict[str, Any]) -> dict[str, int]:
    """Return how each probe of the container is answered."""
    answers = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        action = container[name]["httpGet"]
        headers = {one["name"].lower(): one["value"] for one in action["httpHeaders"]}
        answers[name] = served.get(action["path"], headers=headers).status_code
    return answers


@pytest.fixture
def loading() -> Iterator[Served]:
    made = Served(
        Settings(token=TOKEN.encode(), limits=Limits(max_queued_tokens=40)), is_loaded=False
    )
    yield made
    made.close()


def test_probes_follow_the_service_from_loading_to_its_end(
    loading: Served, container: dict[str, Any]
) -> None:
    names = ("startupProbe", "livenessProbe", "readinessProbe")
    # Until the first has succeeded, the other two are not asked.
    assert asked(loading, container) == dict.fromkeys(names, 503)
    loading.run(loading.encoder.start())
    assert asked(loading, container) == dict.fromkeys(names, 200)
    loading.encoder.refuse_new()
    assert asked(loading, container)["readinessProbe"] == 503


def test_a_full_queue_fails_no_probe(loading: Served, container: dict[str, Any]) -> None:
    loading.run(loading.encoder.start())
    loading.engine.gate.clear()
    action = container["livenessProbe"]["httpGet"]

    async def fill() -> tuple[set[int], int]:
        texts = {"texts": ["one two three four"] * 8}
        requests = [
            asyncio.create_task(loading.client.post("/embed", json=texts, headers=SHOWN))
            for _ in range(6)
        ]
        done, _ = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        health = await loading.client.get(action["path"], headers={"host": "localhost"})
        loading.engine.gate.set()
        await asyncio.gather(*requests)
        return {one.result().status_code for one in done}, health.status_code

    assert loading.run(fill()) == ({429}, 200)


def test_the_model_has_minutes_to_load_and_a_stuck_engine_one(container: dict[str, Any]) -> None:
    starts = container["startupProbe"]
    assert starts["periodSeconds"] * starts["failureThreshold"] >= 120
    lives = container["livenessProbe"]
    assert lives["periodSeconds"] * lives["failureThreshold"] < STUCK_S


def test_templates_of_rays_pods_are_kubernetes_templates() -> None:
    for group in ray_groups():
        check_template(group["template"])
        spoiled = copy.deepcopy(group["template"])
        spoiled["spec"]["containers"][0]["securityContext"]["readOnly"] = True
        with pytest.raises(ValidationError):
            check_template(spoiled)


def test_a_parameter_of_ray_that_is_no_string_is_found() -> None:
    document = read("cluster/rayjob.yaml")
    document["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(ValidationError, match="0 is not of type 'string'"):
        Draft202012Validator(RAY_JOB).validate(document)


def test_the_operator_submits_with_a_token_and_removes_the_cluster() -> None:
    spec = read("cluster/rayjob.yaml")["spec"]
    # Other modes add a pod or a container, which no policy or security context of ours is for.
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"] is True


def test_no_pod_of_ray_tells_of_its_use_or_asks_where_it_is() -> None:
    environments = [
        {one["name"]: one["value"] for one in container["env"]}
        for pod in pods_of_ray()
        for container in pod["containers"]
    ]
    assert {one["RAY_USAGE_STATS_ENABLED"] for one in environments} == {"0"}
    head = environments[0]
    assert head["RAY_USAGE_STATS_REPORT_URL"] == ray_environment.NOWHERE
    assert head["HOME"] == os.devnull


def test_the_policy_admits_rays_pods_and_the_operator_alone() -> None:
    spec = read("cluster/networkpolicy.yaml")["spec"]
    own = spec["podSelector"]
    assert {frozenset(own["matchLabels"].items())} == {
        frozenset(group["template"]["metadata"]["labels"].items()) for group in ray_groups()
    }
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    nodes, operator = spec["ingress"]
    assert nodes == {"from": [{"podSelector": own}]}
    assert [set(peer) for peer in operator["from"]] == [{"namespaceSelector", "podSelector"}]
    head = pods_of_ray()[0]["containers"][0]
    ports = {one["name"]: one["containerPort"] for one in head["ports"]}
    assert operator["ports"] == [{"port": "dashboard"}]
    assert ports["dashboard"] == 8265
    nodes, names = spec["egress"]
    assert nodes == {"to": [{"podSelector": own}]}
    assert {one["port"] for one in names["ports"]} == {53}


def test_the_head_embeds_nothing_and_alone_has_the_volume() -> None:
    head, *workers = ray_groups()
    assert head["rayStartParams"]["num-cpus"] == "0"
    claim = read("cluster/persistentvolumeclaim.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    (volume,) = [one for one in head["template"]["spec"]["volumes"] if "emptyDir" not in one]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    for group in workers:
        assert "num-cpus" not in group["rayStartParams"]  # KubeRay takes limits.cpu
        assert all("emptyDir" in one for one in group["template"]["spec"]["volumes"])


def test_the_object_store_fits_into_memory_that_is_shared() -> None:
    for group in ray_groups():
        (container,) = group["template"]["spec"]["containers"]
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        volumes = {one["name"]: one for one in group["template"]["spec"]["volumes"]}
        shared = volumes[mounts["/dev/shm"]]["emptyDir"]  # noqa: S108 (where Ray has its objects)
        assert shared["medium"] == "Memory"
        store = int(group["rayStartParams"]["object-store-memory"])
        memory = container["resources"]["limits"]["memory"]
        assert store < size_of(shared["sizeLimit"]) < size_of(memory)
        assert container["resources"]["requests"]["memory"] == memory  # no node has less than it


def test_the_job_embeds_by_the_program_of_the_image() -> None:
    command = shlex.split(read("cluster/rayjob.yaml")["spec"]["entrypoint"])
    place = command.index(cli.EMBED)
    program, words = command[:place], command[place + 1 :]
    assert program == [f"/{PLACE}/python/bin/python3.11", "-I", "-B", f"/{PLACE}/embedding_sidecar"]
    options = cli.embed_parser().parse_args(words)
    assert options.ray == "auto"
    head, *workers = pods_of_ray()
    mounts = {one["name"]: one["mountPath"] for one in head["containers"][0]["volumeMounts"]}
    for path in (*options.inputs, options.output):
        assert path.is_relative_to(mounts["data"])
    for pod in workers:
        cores = int(pod["containers"][0]["resources"]["limits"]["cpu"])
        assert cores % options.threads == 0  # else some stay idle


def test_kuberay_is_told_the_version_of_ray_that_is_locked() -> None:
    locked = tomllib.loads((ROOT / "pdm.lock").read_text(encoding="utf-8"))["package"]
    (version,) = {one["version"] for one in locked if one["name"] == "ray"}
    assert read("cluster/rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == version
