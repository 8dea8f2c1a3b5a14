"""The files that can be rendered, by what they are for."""

from __future__ import annotations

from collections.abc import Callable

from cluster.launch.config import ClusterConfig
from cluster.launch.docker import docker
from cluster.launch.kuberay import kuberay
from cluster.launch.ray_up import aws, machines
from cluster.launch.slurm import slurm

RENDERERS: dict[str, Callable[[ClusterConfig], dict[str, str]]] = {
    "aws": aws,
    "machines": machines,
    "kuberay": kuberay,
    "slurm": slurm,
    "docker": docker,
}
