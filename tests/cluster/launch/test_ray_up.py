"""Files for `ray up`: held to Ray's own schema and checks, to EC2's, and to what keeps the door closed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.launch.docker import HOME
from cluster.launch.ray_up import aws, machines
from tests.cluster.launch.configs import CONFIGS

CASES = [pytest.param(render, name, id=f"{render.__name__}-{name}") for render in (aws, machines) for name in CONFIGS]


def content(render, name):
    [text] = render(CONFIGS[name]).values()
    return yaml.safe_load(text)


@pytest.mark.parametrize(("render", "name"), CASES)
def test_ray_takes_it(render, name) -> None:
    """Its schema, and what it does with a file before it asks the provider: defaults filled in and checked again."""
    jsonschema = pytest.importorskip("jsonschema")
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    ours = content(render, name)
    jsonschema.validate(ours, schema)
    whole = prepare_config(ours)
    validate_config(whole)
    workers = sum(kind["min_workers"] for kind in whole["available_node_types"].values())
    config = CONFIGS[name]
    assert workers == whole["max_workers"] == (config.nodes if render is aws else len(config.machines.workers))
    assert whole["setup_commands"] == [] and whole["initialization_commands"] == ours["initialization_commands"]


def test_a_wrong_key_would_be_found() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from ray.autoscaler._private.util import validate_config

    ours = content(aws, "default")
    with pytest.raises(jsonschema.ValidationError, match="fil_mounts"):
        validate_config({**ours, "fil_mounts": {}})


@pytest.mark.parametrize("name", CONFIGS)
def test_ec2_takes_the_machines(name: str) -> None:
    """By the description of EC2's interface that its client has with it."""
    session = pytest.importorskip("botocore.session", reason="the client of AWS is not installed").get_session()
    from botocore.validate import ParamValidator

    shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    validator = ParamValidator()
    for kind in content(aws, name)["available_node_types"].values():
        asked = {**kind["node_config"], "MinCount": 1, "MaxCount": 1}
        asked["SubnetId"] = (asked.pop("SubnetIds", None) or ["subnet-1"])[0]  # Ray chooses one
        report = validator.validate(asked, shape)
        assert not report.has_errors(), report.generate_report()
        assert asked["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in asked["BlockDeviceMappings"])


@pytest.mark.parametrize(("render", "name"), CASES)
def test_the_door_is_closed(render, name) -> None:
    ours = content(render, name)
    [text] = render(CONFIGS[name]).values()
    start = ours["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "0.0.0.0" not in text
    said = [f"{key}={value}" for key, value in CONFIGS[name].variables.items()]
    for command in (start, ours["worker_start_ray_commands"][-1]):
        where = command if render is machines else " ".join(ours["docker"]["run_options"])
        assert all(one in where for one in said), "authentication on and telemetry off, for every node"
        assert "--disable-usage-stats" in command
    [(remote, local)] = ours["file_mounts"].items()
    assert local == "~/.ray/auth_token", "by reference: the token itself is in no file of ours"
    assert remote == (f"{HOME}/.ray/auth_token" if render is aws else "~/.ray/auth_token")


@pytest.mark.parametrize(("render", "name"), CASES)
def test_commands_are_shell(render, name) -> None:
    found = [command for key, value in content(render, name).items() if key.endswith("_commands") for command in value]
    assert len(found) >= 4
    for command in found:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_the_head_on_aws_trains_nothing_and_the_share_is_mounted_once() -> None:
    ours = content(aws, "full")
    kinds = ours["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0} and "--num-cpus=0" in ours["head_start_ray_commands"][-1]
    assert kinds["node"]["resources"] == {"CPU": 48, "GPU": 8}
    assert kinds["node"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"], "the head must not be taken away"
    [mount] = [command for command in ours["initialization_commands"] if "mount -t nfs4" in command]
    assert mount.startswith("mountpoint -q /mnt/lab.share/altformer ||")
    assert mount.endswith("fs-0123.efs.eu-central-1.amazonaws.com:/ /mnt/lab.share/altformer")
