"""Manifests for Kubernetes with the KubeRay operator: a volume, a cluster that stays, a job with a cluster of its own.

`authOptions` asks the operator (1.5.1 or newer) for a token, which it makes and hands to every Ray container; no
manifest holds it. RAY_AUTH_MODE stands there all the same: an older operator drops the field that it does not know,
and Ray, told to ask for a token and given none, then refuses to start rather than run without authentication.
"""

from __future__ import annotations

import shlex
from typing import Any

from cluster.launch.config import ClusterConfig
from cluster.launch.docker import UID
from cluster.launch.text import documents

API = "ray.io/v1"
RAY_VERSION = "2.60.0"  # that of constraints.txt; the operator wants to know it

# The head drives and trains nothing.
HEAD_CPUS = 2
HEAD_MEMORY_GB = 8

# `ray job stop` would give a matrix three seconds after SIGTERM to leave with its checkpoints.
_STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
_PORTS = {"gcs-server": 6379, "dashboard": 8265}


def kuberay(config: ClusterConfig) -> dict[str, str]:
    """The volume's claim, the RayCluster and the RayJob, each a file."""
    name, space = config.name, config.kubernetes.namespace
    storage = f"The folder that all nodes share, once for {name}. kubectl apply -f {name}-storage.yaml"
    cluster = (
        f"A Ray cluster that stays until it is deleted. kubectl apply -f {name}-raycluster.yaml, then\n"
        f"kubectl -n {space} port-forward service/{name}-head-svc 8265:8265 for dashboard and submissions;\n"
        f"its token: kubectl -n {space} get secret {name} --template='{{{{.data.auth_token}}}}' | base64 -d"
    )
    job = f"A matrix on a Ray cluster of its own, which ends with it. kubectl apply -f {name}-rayjob.yaml"
    return {
        f"{name}-storage.yaml": documents(storage, _claim(config)),
        f"{name}-raycluster.yaml": documents(cluster, _resource(config, "RayCluster", name, _cluster(config))),
        f"{name}-rayjob.yaml": documents(job, _resource(config, "RayJob", f"{name}-job", _job(config))),
    }


def _resource(config: ClusterConfig, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": config.kubernetes.namespace}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def _claim(config: ClusterConfig) -> dict[str, Any]:
    ours = config.kubernetes
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": f"{ours.storage_gb}Gi"}},
    }
    if ours.storage_class:
        spec["storageClassName"] = ours.storage_class
    metadata = {"name": _claim_name(config), "namespace": ours.namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def _claim_name(config: ClusterConfig) -> str:
    return f"{config.name}-storage"


def _cluster(config: ClusterConfig) -> dict[str, Any]:
    """The spec of a RayCluster, which is also that of a job's own; the dashboard may be reached, for it has a token."""
    node = {"cpu": str(config.cpus), "memory": f"{config.memory_gb}Gi"}
    if config.gpus:
        node[config.kubernetes.gpu_resource] = str(config.gpus)
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0", "num-gpus": "0"},
            "template": _pod(config, "ray-head", {"cpu": str(HEAD_CPUS), "memory": f"{HEAD_MEMORY_GB}Gi"}),
        },
        "workerGroupSpecs": [
            {
                "groupName": "nodes",
                "replicas": config.nodes,
                "minReplicas": config.nodes,
                "maxReplicas": config.nodes,
                "rayStartParams": {},
                "template": _pod(config, "ray-worker", node),
            }
        ],
    }


def _pod(config: ClusterConfig, container: str, resources: dict[str, str]) -> dict[str, Any]:
    ours: dict[str, Any] = {
        "name": container,
        "image": config.image,
        "env": [{"name": name, "value": value} for name, value in {**config.variables, **_STOP}.items()],
        "resources": _exactly(resources),
        "securityContext": _container_security(),
        "volumeMounts": [{"name": "storage", "mountPath": config.storage}],
    }
    if container == "ray-head":
        ours["ports"] = [{"name": name, "containerPort": port} for name, port in _PORTS.items()]
    spec = _pod_spec(ours)
    spec["volumes"] = [{"name": "storage", "persistentVolumeClaim": {"claimName": _claim_name(config)}}]
    if container == "ray-worker":
        spec |= _placing(config)
    return {"spec": spec}


def _placing(config: ClusterConfig) -> dict[str, Any]:
    """Onto which machines nodes go: also onto those with GPUs, which are kept free of what does not ask for them."""
    ours = config.kubernetes
    found: dict[str, Any] = {"nodeSelector": dict(ours.node_selector)} if ours.node_selector else {}
    if config.gpus:
        found["tolerations"] = [{"key": ours.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]
    return found


def _pod_spec(container: dict[str, Any]) -> dict[str, Any]:
    """What every pod is held to: the image's user, no further rights, no access to Kubernetes itself."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }


def _exactly(resources: dict[str, str]) -> dict[str, Any]:
    return {"requests": dict(resources), "limits": dict(resources)}


def _container_security() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}


def _job(config: ClusterConfig) -> dict[str, Any]:
    """The spec of a RayJob. Environment variables are the containers': a job's own would clash with those of a run."""
    submitter = {
        "name": "submitter",
        "image": config.image,
        "resources": _exactly({"cpu": "500m", "memory": "512Mi"}),
        "securityContext": _container_security(),
    }
    words = ["altformer", "ablate", *config.ablate, "--address", "auto", "--out", config.out]
    return {
        "entrypoint": shlex.join(words),
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 60,
        "backoffLimit": 0,
        "submitterPodTemplate": {"spec": {"restartPolicy": "Never", **_pod_spec(submitter)}},
        "rayClusterSpec": _cluster(config),
    }
