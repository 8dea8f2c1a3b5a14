"""Manifests for KubeRay, field by field.

The schema of the operator's CRDs is not at hand where tests run, so that what is used of it is written down here: the
fields of `RayClusterSpec`, its groups and `RayJobSpec` as in KubeRay's Go types (ray-operator/apis/ray/v1), which an
API server holds a manifest to, and `authOptions.mode`, which came with 1.5.1, as in Ray's page on token authentication
with KubeRay. Pods and the claim are of Kubernetes' own v1. What Ray itself reads of a RayCluster goes through Ray's own
code. Not shown here: that an operator makes a cluster of it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.launch.kuberay import RAY_VERSION, kuberay
from tests.cluster.launch.configs import CONFIGS

ROOT = Path(__file__).parents[3]
LABEL = {"type": "string", "pattern": r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(m|Mi|Gi)?$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def thing(required: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": fields,
    }


def many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": item}


def exactly(value: Any) -> dict[str, Any]:
    return {"const": value}


NUMBER = {"type": "integer", "minimum": 0}
METADATA = thing("name namespace", name=LABEL, namespace=LABEL)
AMOUNTS = {"type": "object", "additionalProperties": QUANTITY, "required": ["cpu", "memory"]}
CONTAINER = thing(
    "name image resources securityContext",
    name=LABEL,
    image={"type": "string"},
    env=many(thing("name value", name={"type": "string"}, value={"type": "string"})),
    resources=thing("requests limits", requests=AMOUNTS, limits=AMOUNTS),
    securityContext=thing(
        "allowPrivilegeEscalation capabilities runAsNonRoot",
        allowPrivilegeEscalation=exactly(False),
        capabilities=exactly({"drop": ["ALL"]}),
        runAsNonRoot=exactly(True),
    ),
    volumeMounts=many(thing("name mountPath", name=LABEL, mountPath={"type": "string"})),
    ports=many(thing("name containerPort", name={"type": "string", "maxLength": 15}, containerPort=NUMBER)),
)
POD = thing(
    "containers securityContext automountServiceAccountToken",
    containers={**many(CONTAINER), "maxItems": 1},
    restartPolicy=exactly("Never"),
    automountServiceAccountToken=exactly(False),
    enableServiceLinks=exactly(False),
    securityContext=thing(
        "runAsNonRoot runAsUser runAsGroup fsGroup seccompProfile",
        runAsNonRoot=exactly(True),
        runAsUser={"type": "integer", "minimum": 1},
        runAsGroup={"type": "integer", "minimum": 1},
        fsGroup={"type": "integer", "minimum": 1},
        fsGroupChangePolicy={"enum": ["OnRootMismatch", "Always"]},
        seccompProfile=exactly({"type": "RuntimeDefault"}),
    ),
    nodeSelector=TEXTS,
    tolerations=many(
        thing(
            "key operator effect",
            key={"type": "string"},
            operator={"enum": ["Exists", "Equal"]},
            effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        )
    ),
    volumes=many(
        thing("name persistentVolumeClaim", name=LABEL, persistentVolumeClaim=thing("claimName", claimName=LABEL))
    ),
)
TEMPLATE = thing("spec", spec=POD)
CLUSTER = thing(
    "headGroupSpec workerGroupSpecs rayVersion authOptions",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=thing("mode", mode=exactly("token")),
    headGroupSpec=thing("rayStartParams template", rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=many(
        thing(
            "groupName replicas minReplicas maxReplicas rayStartParams template",
            groupName=LABEL,
            replicas=NUMBER,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        )
    ),
)
JOB = thing(
    "entrypoint rayClusterSpec submissionMode shutdownAfterJobFinishes",
    entrypoint={"type": "string"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=NUMBER,
    backoffLimit=NUMBER,
    submitterPodTemplate=TEMPLATE,
    rayClusterSpec=CLUSTER,
)
CLAIM = thing(
    "accessModes resources",
    accessModes=exactly(["ReadWriteMany"]),
    resources=thing("requests", requests={"type": "object", "additionalProperties": QUANTITY, "required": ["storage"]}),
    storageClassName={"type": "string"},
)


def resource(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return thing(
        "apiVersion kind metadata spec", apiVersion=exactly(version), kind=exactly(kind), metadata=METADATA, spec=spec
    )


SCHEMAS = {
    "storage": resource("v1", "PersistentVolumeClaim", CLAIM),
    "raycluster": resource("ray.io/v1", "RayCluster", CLUSTER),
    "rayjob": resource("ray.io/v1", "RayJob", JOB),
}


def manifests(name: str) -> dict[str, Any]:
    """By the last word of their file's name."""
    found = kuberay(CONFIGS[name])
    return {Path(file).stem.rpartition("-")[2]: yaml.safe_load(text) for file, text in found.items()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_is_one_that_there_is(kind: str, name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    found = manifests(name)
    assert sorted(found) == sorted(SCHEMAS)
    jsonschema.validate(found[kind], SCHEMAS[kind])


@pytest.mark.parametrize("name", CONFIGS)
def test_ray_reads_the_resources_that_were_meant(name: str) -> None:
    """With the code by which Ray's autoscaler understands a RayCluster."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    config = CONFIGS[name]
    kinds = _derive_autoscaling_config_from_ray_cr(manifests(name)["raycluster"])["available_node_types"]
    assert (kinds["headgroup"]["resources"]["CPU"], kinds["headgroup"]["resources"]["GPU"]) == (0, 0)
    node = kinds["nodes"]
    assert (node["min_workers"], node["max_workers"]) == (config.nodes, config.nodes)
    assert node["resources"]["CPU"] == config.cpus
    assert node["resources"]["memory"] == config.memory_gb * 2**30
    if config.kubernetes.gpu_resource == "nvidia.com/gpu":
        assert node["resources"]["GPU"] == config.gpus


@pytest.mark.parametrize("name", CONFIGS)
def test_all_nodes_share_the_claim_and_the_settings(name: str) -> None:
    config, found = CONFIGS[name], manifests(name)
    claim = found["storage"]["metadata"]["name"]
    clusters = [found["raycluster"]["spec"], found["rayjob"]["spec"]["rayClusterSpec"]]
    assert clusters[0] == clusters[1]
    groups = [clusters[0]["headGroupSpec"], *clusters[0]["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]] == [claim]
        [container] = pod["containers"]
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == [config.storage]
        variables = {one["name"]: one["value"] for one in container["env"]}
        assert config.variables.items() <= variables.items()
        assert variables["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert {one["metadata"]["namespace"] for one in found.values()} == {config.kubernetes.namespace}


@pytest.mark.parametrize("name", CONFIGS)
def test_no_secret_is_in_them_and_ray_fails_closed(name: str) -> None:
    """The token is the operator's to make; an operator too old for that leaves Ray without one, which then refuses."""
    for text in kuberay(CONFIGS[name]).values():
        assert not re.search(r"RAY_AUTH_TOKEN|stringData|kind: Secret|password", text)
    group = manifests(name)["raycluster"]["spec"]["headGroupSpec"]
    assert group["rayStartParams"]["dashboard-host"] == "0.0.0.0", "others reach it, so"
    [container] = group["template"]["spec"]["containers"]
    assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]


def test_the_gpus_of_a_slice_and_the_machines_that_have_them() -> None:
    [group] = manifests("full")["raycluster"]["spec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == "8"
    assert pod["nodeSelector"] == {"cloud.example/accelerator": "h100"}
    assert pod["tolerations"][0]["key"] == "nvidia.com/mig-3g.40gb"
    without = kuberay(CONFIGS["default"].model_copy(update={"gpus": 0}))["altformer-raycluster.yaml"]
    assert "nvidia.com" not in without


def test_the_job_runs_the_matrix_on_its_cluster() -> None:
    words = shlex.split(manifests("full")["rayjob"]["spec"]["entrypoint"])
    assert words[:2] == ["altformer", "ablate"]
    assert tuple(words[2:-4]) == CONFIGS["full"].ablate
    assert words[-4:] == ["--address", "auto", "--out", "/mnt/lab.share/altformer/runs"]


def test_the_version_is_the_one_that_is_installed_in_the_image() -> None:
    assert f"ray=={RAY_VERSION}" in (ROOT / "constraints.txt").read_text().splitlines()
