"""The file for own machines, with `ray up` itself, on machines that are namespaces of this one."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.launch.config import ClusterConfig
from cluster.launch.ray_up import machines
from tests.cluster.launch.ssh_machines import OPTIONS, SshMachines
from tests.faults.harness import SETTINGS

BIN = Path(sys.executable).parent


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_matrix_runs_on_machines_that_ray_up_has_reached_by_ssh(tmp_path: Path) -> None:
    if not (BIN / "altformer").exists():
        pytest.skip("the command `altformer` is not installed in this environment")
    with SshMachines(3) as there:
        storage, home = there.temp / "storage", there.temp / "home"
        (home / ".ray").mkdir(parents=True)
        storage.mkdir()
        token = home / ".ray" / "auth_token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        matrix = {"name": "ssh", "base": "simulated", "arms": {"low": {"lr": 1e-3}, "high": {"lr": 3e-3}}}
        matrix |= {"baseline": "low", "seeds": 2, "scheduler": "none", "settings": {**SETTINGS, "epochs": 2}}
        (storage / "matrix.yaml").write_text(yaml.safe_dump(matrix))
        head, *workers = there.addresses
        config = ClusterConfig.model_validate(
            {
                "storage": str(storage),
                "environment": str(BIN.parent),
                "ablate": [str(storage / "matrix.yaml"), "--no-mlflow", "--profile", "full", "--probe-seconds", "0"],
                "machines": {"head": head, "workers": workers, "user": "root", "ssh_key": str(there.key)},
            }
        )
        [(name, text)] = machines(config).items()
        (tmp_path / name).write_text(text)
        [run] = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("# Run: ")]

        def ray(*words: str) -> str:
            env = {**os.environ, "HOME": str(home), "RAY_TMPDIR": str(there.temp), "RAY_USAGE_STATS_ENABLED": "0"}
            done = subprocess.run(
                [str(BIN / "ray"), *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        ray("up", "--yes", "--no-config-cache", name)
        for address in there.addresses[:1]:
            assert_token_arrived(there.home(address) / ".ray" / "auth_token", token)
        ray("exec", name, f"{BIN}/altformer cluster wait --address {head}:6379 --nodes 3 --seconds 240")
        for address in there.addresses:
            assert_token_arrived(there.home(address) / ".ray" / "auth_token", token)
        assert token.read_text() not in "\n".join(there.processes()), "it is on no command line"
        words = run.removeprefix(f"ray exec {name} ")
        ray("exec", name, words.strip("'"))
        records = [json.loads(path.read_text()) for path in (storage / "runs" / "cells").glob("*/record.json")]
        assert len(records) == 4
        [end] = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("# End: ")]
        loop, down = end.rsplit("; ", 1)
        options = " ".join(f"-o {option}" for option in OPTIONS)
        subprocess.run(["bash", "-c", loop.replace("ssh -i", f"ssh {options} -i")], check=True, timeout=120)
        assert down == f"ray down {name}"
        ray("down", "--yes", name)
        assert there.processes() == []


def assert_token_arrived(path: Path, token: Path) -> None:
    assert path.read_text() == token.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
