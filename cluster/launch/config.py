"""What a cluster is to be: the one small configuration that every file of `cluster.launch` is rendered from.

Every field has a default. What ends up in shell scripts, paths or names elsewhere is held to plain characters here,
and quoted where it is used all the same.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cluster.environment import QUIET

# Set by the renderers, which know where the cluster is and which folder its nodes share.
_OWN_OPTIONS = ("--address", "--out")


def _plain(pattern: str, rule: str) -> AfterValidator:
    """Text that matches a pattern whole; the error says the rule in words."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {rule}")
        return text

    return AfterValidator(check)


def _no_way_up(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("must be a path without '..'")
    return path


def _one_line(word: str) -> str:
    if not word.isprintable() or not word:
        raise ValueError("must be one word or value of a command line, without line breaks")
    return word


def _not_ours(words: tuple[str, ...]) -> tuple[str, ...]:
    ours = next((name for word in words if (name := word.partition("=")[0]) in _OWN_OPTIONS), None)
    if ours is not None:
        raise ValueError(f"must leave {ours} out, which what is rendered sets")
    return words


Name = Annotated[
    str, _plain(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "at most 40 lower-case letters, digits and '-', a letter first")
]
Folder = Annotated[
    str, _plain(r"(/[A-Za-z0-9._-]+)+", "an absolute path of letters, digits and . _ -"), AfterValidator(_no_way_up)
]
KeyFile = Annotated[str, _plain(r"[A-Za-z0-9~/][A-Za-z0-9._/-]*", "a path of letters, digits and . _ - /")]
Host = Annotated[str, _plain(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "a machine's name or its IPv4 address")]
Image = Annotated[
    str, _plain(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", "an image's name, as registry.example/altformer:0.1.0")
]
Word = Annotated[str, _plain(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "at most 63 letters, digits and . _ -")]
Label = Annotated[str, _plain(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,252}", "letters, digits and . _ - /")]
Export = Annotated[
    str, _plain(r"[A-Za-z0-9][A-Za-z0-9.-]*:(/[A-Za-z0-9._-]*)+", "what to mount by NFS, as server.example:/folder")
]

CommandWord = Annotated[str, AfterValidator(_one_line)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Aws(_Strict):
    """Machines that `ray up` rents from AWS.

    `ami` None is Ray's own default, whose driver is too old for many GPUs; `nfs` is the share that becomes the
    cluster's `storage`, an EFS file system for instance. Without `security_groups` Ray makes one whose SSH port
    anyone may knock at.
    """

    region: Word = "us-west-2"
    ami: Word | None = None
    head_type: Word = "m5.xlarge"
    node_type: Word = "g5.2xlarge"
    user: Word = "ubuntu"
    disk_gb: int = Field(default=200, ge=50, le=16_000)
    spot: bool = False
    nfs: Export | None = None
    security_groups: tuple[Word, ...] = ()
    subnets: tuple[Word, ...] = ()


class Machines(_Strict):
    """Machines that are there already, reached by SSH; `ray up` starts Ray on them. The head trains too."""

    head: Host = "head.example"
    workers: tuple[Host, ...] = Field(default=("node1.example", "node2.example"), min_length=1)
    user: Word = "ubuntu"
    ssh_key: KeyFile | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Machines:
        given = [self.head, *self.workers]
        twice = next((host for host in given if given.count(host) > 1), None)
        if twice is not None:
            raise ValueError(f"names the machine {twice} twice; a machine is one node")
        return self


class Kubernetes(_Strict):
    """A Kubernetes cluster with the KubeRay operator, 1.5.1 or newer.

    `storage_class` None is the cluster's default; it must give volumes that many nodes write at once.
    """

    namespace: Name = "default"
    storage_class: Word | None = None
    storage_gb: int = Field(default=100, ge=1)
    gpu_resource: Label = "nvidia.com/gpu"
    node_selector: dict[Label, Label] = Field(default_factory=dict)


class Slurm(_Strict):
    """A SLURM cluster; a job ends by itself after `hours`, leaving checkpoints."""

    partition: Word | None = None
    account: Word | None = None
    hours: int = Field(default=24, ge=1, le=8760)


class ClusterConfig(_Strict):
    """Nodes that train, what each has, what they run and where.

    `nodes`, `cpus`, `gpus` and `memory_gb` (GiB) are of the nodes that train. `storage` is a folder that all nodes see
    under the same path: records, checkpoints and data are there. `environment` is the virtual environment with
    AltFormer on machines that run no image, None for `.venv` in the storage. `ablate` is what a job runs: the words
    after `altformer ablate`.
    """

    name: Name = "altformer"
    nodes: int = Field(default=2, ge=1, le=1000)
    cpus: int = Field(default=8, ge=1, le=1024)
    gpus: int = Field(default=1, ge=0, le=64)
    memory_gb: int = Field(default=32, ge=1, le=24_000)
    image: Image = "altformer:0.1.0"
    storage: Folder = "/shared/altformer"
    environment: Folder | None = None
    ablate: Annotated[tuple[CommandWord, ...], AfterValidator(_not_ours)] = Field(default=("depth",), min_length=1)
    aws: Aws = Aws()
    machines: Machines = Machines()
    kubernetes: Kubernetes = Kubernetes()
    slurm: Slurm = Slurm()

    @property
    def venv(self) -> str:
        """The folder of the virtual environment."""
        return self.environment or f"{self.storage}/.venv"

    @property
    def out(self) -> str:
        """Where everything that runs write goes."""
        return f"{self.storage}/runs"

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of every process on the cluster: authentication on, telemetry off, where data are."""
        given = {"ALTFORMER_DATA": f"{self.storage}/data", "RAY_AUTH_MODE": "token", **QUIET}
        return dict(sorted(given.items()))
