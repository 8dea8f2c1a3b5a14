"""SLURM on this machine, with nodes that are daemons of it: as many as a cluster has, where the machine is one."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol")
PACKAGES = "slurm-wlm and munge"

CONFIG = """\
ClusterName=altformer
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
KillWait=5
MpiDefault=none
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs of SLURM that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


class Slurm:
    """A controller and `nodes` nodes of one CPU; a context manager."""

    def __init__(self, nodes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sl-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []
        host = socket.gethostname().partition(".")[0]
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} CPUs=1 RealMemory=4000"
            for name in self.nodes
        ]
        user = pwd.getpwuid(os.getuid()).pw_name
        text = CONFIG.format(host=host, port=_free_port(), user=user, folder=self.folder, nodes="\n".join(lines))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "state").mkdir()

    def start(self) -> str | None:
        """Start the daemons; what they say when the nodes are not ready in time."""
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        own = [f"--{name}={self.folder}/munge.{name.partition('-')[0]}" for name in ("socket", "log-file", "pid-file")]
        own += [f"--key-file={key}", f"--seed-file={self.folder}/munge.seed"]
        self._daemon("munged", "--foreground", *own)
        self._daemon("slurmctld", "-D")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            shown = self.run("sinfo", "--noheader", "--Node", "--format=%T").stdout.split()
            if shown == ["idle"] * len(self.nodes):
                return None
            time.sleep(0.3)
        return "\n".join(path.read_text(errors="replace")[-1000:] for path in sorted(self.folder.glob("*.out")))

    def run(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """One of SLURM's commands."""
        environment = {**self.environment, **(env or {})}
        return subprocess.run(words, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=60)

    def submit(self, script: Path, env: dict[str, str]) -> int:
        """The number of the job that a script becomes; what it prints goes to `job-NUMBER.txt`."""
        done = self.run("sbatch", "--output=job-%j.txt", str(script), env=env)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    def printed(self, job: int) -> str:
        """What a job has printed so far."""
        path = self.folder / f"job-{job}.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, job: int, seconds: float = 300.0) -> int:
        """The exit code of a job's script."""
        until = time.monotonic() + seconds
        while True:
            shown = dict(re.findall(r"(\w+)=(\S+)", self.run("scontrol", "show", "job", str(job)).stdout))
            if shown.get("JobState") not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
                return int(shown["ExitCode"].partition(":")[0])
            assert time.monotonic() < until, f"{shown}\n{self.printed(job)}"
            time.sleep(0.3)

    def close(self) -> None:
        """End the daemons and what is left of jobs, and remove all files."""
        with suppress(subprocess.TimeoutExpired):
            until = time.monotonic() + 40
            while (jobs := self.run("squeue", "--noheader", "--format=%i").stdout.split()) and time.monotonic() < until:
                self.run("scancel", *jobs)
                time.sleep(1)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _daemon(self, *words: str) -> None:
        with (self.folder / f"{len(self._daemons)}-{words[0]}.out").open("w") as file:
            self._daemons.append(
                subprocess.Popen(
                    words, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
                )
            )
        if words[0] == "munged":
            time.sleep(0.5)  # the others want its socket


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _path() -> str:
    """Where programs are looked for: daemons lie where only the administrator looks."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
