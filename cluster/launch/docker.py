"""The image that nodes run where they run one: AltFormer and its pinned requirements, no data, no secrets, no root."""

from __future__ import annotations

import shlex

from cluster.launch.config import ClusterConfig

USER = "altformer"
UID = 1000
HOME = f"/home/{USER}"

#: all that goes into the image of the project's folder
SOURCES = (
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "altformer",
    "cluster",
    "experiments",
    "ablations",
)

# wget: KubeRay asks with it whether a node is well. rsync: `ray up` copies files into the container with it.
_PROGRAMS = ("rsync", "wget")


def docker(config: ClusterConfig) -> dict[str, str]:
    """A Dockerfile for the project's folder, and beside it what of the folder the build gets to see."""
    variables = {"HOME": HOME, **config.variables, "PATH": f"{HOME}/.local/bin:$PATH", "PYTHONUNBUFFERED": "1"}
    copies = [f"COPY {name} ./{name}" for name in SOURCES]
    lines = [
        "# The image of AltFormer. In the project's folder:",
        f"#   docker build --file Dockerfile --tag {config.image} .",
        "FROM python:3.11-slim-bookworm",
        "RUN apt-get update \\",
        f" && apt-get install --yes --no-install-recommends {shlex.join(_PROGRAMS)} \\",
        " && rm -rf /var/lib/apt/lists/* \\",
        f" && useradd --uid {UID} --create-home --home-dir {HOME} --shell /bin/bash {USER} \\",
        # what is mounted there must be the user's; `ray up` mounts a single file into the first
        f" && install --directory --owner={USER} --group={USER} --mode=0700 {HOME}/.ray \\",
        f" && install --directory --owner={USER} --group={USER} {shlex.quote(config.storage)}",
        "WORKDIR /opt/altformer",
        *copies,
        "RUN pip install --no-cache-dir --constraint constraints.txt .",
        f"USER {UID}:{UID}",
        *(f'ENV {name}="{value}"' for name, value in variables.items()),
        f"WORKDIR {HOME}",
        'CMD ["altformer", "--help"]',
    ]
    seen = ["# The build sees these, and no data, runs or secrets.", "*", *(f"!{name}" for name in SOURCES)]
    seen += ["**/__pycache__"]
    return {"Dockerfile": "\n".join(lines) + "\n", "Dockerfile.dockerignore": "\n".join(seen) + "\n"}
