"""The KubeRay manifests: valid against the operator's own schemas, down to every field."""

import copy
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from launch_templates import ROOT, read

from dfshield.config import load_config

MANIFESTS = ("raycluster", "rayjob")
METADATA = {
    "properties": {key: {"type": "string"} for key in ("name", "namespace")}
    | {key: {"additionalProperties": {"type": "string"}} for key in ("labels", "annotations")},
    "required": ["name"],
}
# Maps whose keys are for the user to choose.
FREE = {"rayStartParams", "requests", "limits"}


def manifest(name: str) -> dict:
    return read(f"kuberay/{name}.yaml")


def closed(schema: Any) -> Any:
    """Return a schema of Kubernetes as JSON Schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


@pytest.fixture(scope="module")
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    """What a manifest of each kind is validated with."""
    folder = os.environ.get("DFSHIELD_CRDS")
    if not folder:
        pytest.skip("DFSHIELD_CRDS is not set: it names the folder with KubeRay's CRDs")
    found = {}
    for name in MANIFESTS:
        definition = yaml.safe_load((Path(folder) / f"{name}_crd.yaml").read_text())
        (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = METADATA | {"type": "object"}
        schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
        found[name] = jsonschema.Draft202012Validator(closed(schema))
    return found


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        target[key] = merged(target.get(key), value)
    return {key: value for key, value in target.items() if value is not None}


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every field, those of free maps left out."""
    if isinstance(tree, list):
        for i, part in enumerate(tree):
            yield from places(part, (*path, i))
    elif isinstance(tree, dict) and not (path and path[-1] in FREE):
        for key, part in tree.items():
            yield (*path, key)
            yield from places(part, (*path, key))


def misspelt(tree: dict, path: tuple) -> dict:
    """A copy with one key misspelt."""
    tree = copy.deepcopy(tree)
    section = tree
    for key in path[:-1]:
        section = section[key]
    section[f"{path[-1]}x"] = section.pop(path[-1])
    return tree


def pods(name: str) -> dict[str, dict]:
    """The pod templates of a manifest."""
    spec = manifest(name)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    found = {"head": cluster["headGroupSpec"]["template"]["spec"]}
    found |= {g["groupName"]: g["template"]["spec"] for g in cluster["workerGroupSpecs"]}
    if "submitterPodTemplate" in spec:
        found["submitter"] = spec["submitterPodTemplate"]["spec"]
    return found


def cluster_of(name: str) -> dict:
    spec = manifest(name)["spec"]
    return spec.get("rayClusterSpec", spec)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_valid(validators, name):
    tree = manifest(name)
    assert tree["apiVersion"] == "ray.io/v1"
    assert tree["kind"].lower() == name
    validators[name].validate(tree)


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_field_is_refused_when_misspelt(validators, name):
    tree = manifest(name)
    paths = list(places(tree))
    assert max(map(len, paths)) > 8
    assert not [path for path in paths if validators[name].is_valid(misspelt(tree, path))]


def test_fault_tolerance_is_a_merge_patch_on_the_cluster(validators):
    tree, patch = manifest("raycluster"), manifest("gcs-fault-tolerance")
    validators["raycluster"].validate(merged(tree, patch))
    for path in list(places(patch))[1:]:
        assert not validators["raycluster"].is_valid(merged(tree, misspelt(patch, path))), path
    password = patch["spec"]["gcsFaultToleranceOptions"]["redisPassword"]
    assert list(password) == ["valueFrom"]
    assert list(password["valueFrom"]) == ["secretKeyRef"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_only_holders_of_the_token_get_in_and_nothing_runs_as_root(name):
    cluster = cluster_of(name)
    assert cluster["authOptions"] == {"mode": "token"}
    host = cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"]
    assert host == {"raycluster": "127.0.0.1", "rayjob": "0.0.0.0"}[name]
    assert cluster["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"] is False
    for pod in pods(name).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", MANIFESTS)
def test_workers_have_gpus_and_come_when_asked_for_and_the_head_takes_no_work(name):
    cluster = cluster_of(name)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert group["maxReplicas"] > 0
    (container,) = pods(name)[group["groupName"]]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] > 0
    for container in (c for pod in pods(name).values() for c in pod["containers"]):
        if container["name"] != "ray-job-submitter":
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_what_is_handed_to_ray_start_are_its_options(name):
    cluster = cluster_of(name)
    told = subprocess.run(["ray", "start", "--help"], capture_output=True, text=True, check=True)
    options = set(re.findall(r"(?m)^ +--([\w-]+)", told.stdout))
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group["rayStartParams"]) <= options
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize("name", MANIFESTS)
def test_head_and_workers_share_one_volume(name):
    claim = manifest("storage")
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for role, pod in pods(name).items():
        if role != "submitter":
            volumes = {v["name"]: v for v in pod["volumes"]}
            mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
            assert mounts["shared"] == "/shared"
            assert mounts.keys() == volumes.keys()
            named = volumes["shared"]["persistentVolumeClaim"]["claimName"]
            assert named == claim["metadata"]["name"]


def test_the_job_resumes_on_the_shared_volume_and_ends_its_cluster():
    spec = manifest("rayjob")["spec"]
    words = spec["entrypoint"].split()
    assert words[:3] == ["dfshield", "run", "/config/config.yaml"]
    settings = dict(word.split("=") for word in words[3:])
    assert settings["storage.path"].startswith("/shared/")
    assert settings["cluster.address"] == "auto"
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert int(settings["cluster.num_workers"]) == group["maxReplicas"]
    load_config(str(ROOT / "examples" / "digits.yaml"), words[3:])
