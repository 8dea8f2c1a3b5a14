"""Files for Ray's own launcher, `ray up`: on machines rented from AWS, and on machines that are there already.

The token of the user's own Ray (`~/.ray/auth_token`) becomes the cluster's, so that commands from here are let in.
"""

from __future__ import annotations

import shlex
from typing import Any

from cluster.launch.config import ClusterConfig
from cluster.launch.docker import HOME, UID
from cluster.launch.text import documents, exports

TOKEN = ".ray/auth_token"
PORT = 6379
_TOKEN_NOTE = f"The token in ~/{TOKEN} becomes the cluster's; make one: (umask 077; ray get-auth-token --generate)"

# On the head's own loopback address: `ray dashboard FILE` brings it here through SSH.
_DASHBOARD = "--dashboard-host=127.0.0.1"
_HEAD = f"ray start --head --port={PORT} {_DASHBOARD} --autoscaling-config=~/ray_bootstrap_config.yaml"
_WORKER = f"ray start --address=$RAY_HEAD_IP:{PORT}"
# Ray's second autoscaler, its default, never starts the workers of a list of machines (2.60).
_FIRST_AUTOSCALER = {"RAY_enable_autoscaler_v2": "0"}
_FILES = 'ulimit -n "$(ulimit -Hn)"'


def aws(config: ClusterConfig) -> dict[str, str]:
    """A `ray up` file for AWS: a head that only drives, and `nodes` machines that train, all in the image."""
    file = f"{config.name}-aws.yaml"
    lines = [
        f"{config.name} on AWS, on machines that pull {config.image}.",
        _TOKEN_NOTE,
        *_commands(config, file, "altformer", f"ray down {file}"),
    ]
    if not config.aws.nfs:
        lines.append(f"aws.nfs is not set: {config.storage} is a folder of its own on each machine, and runs need one.")
    if not config.aws.security_groups:
        lines.append("aws.security_groups is not set: Ray makes one whose SSH port can be reached from anywhere.")
    return {file: documents("\n".join(lines), _aws(config))}


def machines(config: ClusterConfig) -> dict[str, str]:
    """A `ray up` file for own machines with a shared folder, where the environment is."""
    file, bins = f"{config.name}-machines.yaml", f"{config.venv}/bin"
    lines = [
        f"{config.name} on own machines, which all see {config.venv}.",
        _TOKEN_NOTE,
        *_commands(config, file, f"{bins}/altformer", f"{_stop(config)}; ray down {file}"),
    ]
    return {file: documents("\n".join(lines), _machines(config))}


def _stop(config: ClusterConfig) -> str:
    """Ends Ray on every machine: `ray down` stops a Ray on the head's own PATH only, and forgets the others."""
    ours = config.machines
    ssh = f"ssh -i {ours.ssh_key}" if ours.ssh_key else "ssh"
    hosts = " ".join([ours.head, *ours.workers])
    return f"for host in {hosts}; do {ssh} {ours.user}@$host {shlex.quote(f'{config.venv}/bin/ray')} stop; done"


def _commands(config: ClusterConfig, file: str, program: str, end: str) -> list[str]:
    matrix = shlex.join([program, "ablate", *config.ablate, "--address", "auto", "--out", config.out])
    return [
        f"Start: ray up {file}    Look: ray dashboard {file}",
        f"Run: ray exec {file} {shlex.quote(matrix)}",
        f"End: {end}",
    ]


def _aws(config: ClusterConfig) -> dict[str, Any]:
    ours = config.aws
    head = {"resources": {"CPU": 0}, "min_workers": 0, "max_workers": 0, "node_config": _instance(config, head=True)}
    node = {"resources": {"CPU": config.cpus, "GPU": config.gpus}, "min_workers": config.nodes}
    node |= {"max_workers": config.nodes, "node_config": _instance(config, head=False)}
    options = [f"--env={name}={value}" for name, value in config.variables.items()]
    options += [f"--volume={config.storage}:{config.storage}", "--ulimit=nofile=65536:65536"]
    return {
        "cluster_name": config.name,
        "max_workers": config.nodes,
        "provider": {"type": "aws", "region": ours.region, "cache_stopped_nodes": False},
        "auth": {"ssh_user": ours.user},
        "docker": {
            "image": config.image,
            "container_name": config.name,
            "pull_before_run": True,
            "run_options": options,
        },
        "head_node_type": "head",
        "available_node_types": {"head": head, "node": node},
        "file_mounts": {f"{HOME}/{TOKEN}": f"~/{TOKEN}"},
        "initialization_commands": _storage(config),
        "setup_commands": [],
        "head_setup_commands": ["python -m pip install --user 'boto3>=1.34,<2'"],
        "worker_setup_commands": [],
        "head_start_ray_commands": ["ray stop", f"{_HEAD} --num-cpus=0 --num-gpus=0 --disable-usage-stats"],
        "worker_start_ray_commands": ["ray stop", f"{_WORKER} --disable-usage-stats"],
    }


def _instance(config: ClusterConfig, head: bool) -> dict[str, Any]:
    """What is asked of EC2 for one machine: instance metadata only for who holds a session, disks encrypted."""
    ours = config.aws
    disk = {"VolumeSize": ours.disk_gb, "VolumeType": "gp3", "Encrypted": True}
    asked: dict[str, Any] = {
        "InstanceType": ours.head_type if head else ours.node_type,
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
    }
    if ours.ami:
        asked["ImageId"] = ours.ami
    if ours.security_groups:
        asked["SecurityGroupIds"] = list(ours.security_groups)
    if ours.subnets:
        asked["SubnetIds"] = list(ours.subnets)
    if ours.spot and not head:
        asked["InstanceMarketOptions"] = {"MarketType": "spot"}
    return asked


def _storage(config: ClusterConfig) -> list[str]:
    """Commands that make the storage on a machine, outside the image: a mounted share, or a folder."""
    folder = shlex.quote(config.storage)
    made = [f"sudo mkdir -p {folder}"]
    if config.aws.nfs:
        share = shlex.quote(config.aws.nfs)
        made += [
            "command -v mount.nfs4 || (sudo apt-get update && sudo apt-get install -y nfs-common)",
            f"mountpoint -q {folder} || sudo mount -t nfs4 -o nfsvers=4.1,hard,timeo=600,noresvport {share} {folder}",
        ]
    return [*made, f"[ -w {folder} ] || sudo chown {UID}:{UID} {folder}"]


def _machines(config: ClusterConfig) -> dict[str, Any]:
    ours = config.machines
    auth = {"ssh_user": ours.user} | ({"ssh_private_key": ours.ssh_key} if ours.ssh_key else {})
    variables = exports({**config.variables, **_FIRST_AUTOSCALER})
    before = f"{variables}; export PATH={shlex.quote(config.venv + '/bin')}:$PATH; {_FILES}"
    return {
        "cluster_name": config.name,
        "max_workers": len(ours.workers),
        "provider": {"type": "local", "head_ip": ours.head, "worker_ips": list(ours.workers)},
        "auth": auth,
        "file_mounts": {f"~/{TOKEN}": f"~/{TOKEN}"},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [f"{before}; ray stop", f"{before}; {_HEAD} --disable-usage-stats"],
        "worker_start_ray_commands": [f"{before}; ray stop", f"{before}; {_WORKER} --disable-usage-stats"],
    }
