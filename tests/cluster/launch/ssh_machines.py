"""Machines reached by SSH, as far as the kernel can make them: own network, own processes, own home."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.nodes.machines import skip_without_namespaces

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")


class SshMachines:
    """`count` machines on a bridge, which this one is on too; a context manager."""

    def __init__(self, count: int) -> None:
        if SSHD is None or not all(map(shutil.which, ("ssh", "ssh-keygen", "rsync"))):
            pytest.skip("ssh, sshd or rsync is not installed; packages openssh-client, openssh-server and rsync")
        skip_without_namespaces()
        self.temp = Path(tempfile.mkdtemp(prefix="rm-", dir="/tmp"))
        self.temp.chmod(0o755)
        self.key = self.temp / "key"
        self._bridge, self._started, self._spaces = f"afr{os.getpid()}", [], []
        subnet = f"10.232.{os.getpid() % 250}"
        self.addresses = [f"{subnet}.{number}" for number in range(2, count + 2)]
        try:
            for name in ("key", "host"):
                _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.temp / name))
            _run("ip", "link", "add", self._bridge, "type", "bridge")
            _run("ip", "addr", "add", f"{subnet}.1/24", "dev", self._bridge)
            _run("ip", "link", "set", self._bridge, "up")
            for number, address in enumerate(self.addresses):
                self._add(number, address, f"{subnet}.1")
            for address in self.addresses:
                self._wait(address)
        except BaseException:
            self.close()
            raise

    def home(self, address: str) -> Path:
        """The home of the user there."""
        return self.temp / f"home-{address.rpartition('.')[2]}"

    def processes(self) -> list[str]:
        """Titles of Ray's processes there."""
        found = []
        for popen in self._started:
            shown = subprocess.run(
                ["nsenter", "--target", str(_first(popen.pid)), "--pid", "--mount", "ps", "-eo", "args="],
                capture_output=True,
                text=True,
            ).stdout
            found += [line for line in shown.splitlines() if "ray" in line and "sshd" not in line]
        return found

    def close(self) -> None:
        """End all that runs there, and take the networks and files away."""
        for popen in self._started:
            with suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)  # and with the first process of each machine all others
            popen.wait()
        for space in self._spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)
        shutil.rmtree(self.temp, ignore_errors=True)

    def _add(self, number: int, address: str, gateway: str) -> None:
        space, end = f"afr{os.getpid()}-{number}", f"afw{os.getpid() % 100000}-{number}"
        self._spaces.append(space)
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "link", "set", end, "master", self._bridge, "up")
        _run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        _run("ip", "-n", space, "link", "set", "eth0", "up")
        _run("ip", "-n", space, "link", "set", "lo", "up")
        _run("ip", "-n", space, "route", "add", "default", "via", gateway)
        home = self.home(address)
        home.mkdir(mode=0o700)
        options = [f"AuthorizedKeysFile={self.key}.pub", f"HostKey={self.temp}/host", f"SetEnv=HOME={home}"]
        options += ["PidFile=none", "StrictModes=no", "UsePAM=no", "PermitRootLogin=prohibit-password"]
        Path("/tmp/ray").mkdir(exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        config = self.temp / "ssh_config"  # `ssh` looks for ~/ray_bootstrap_key.pem in the home that passwd names
        config.write_text(f"IdentityFile {self.key}\n")
        mounts = f"mount -t tmpfs tmpfs /tmp/ray && mount --bind {config} /etc/ssh/ssh_config"
        script = f'{mounts} && exec {SSHD} -D -e -f /dev/null "$@"'
        own = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh"]
        with (self.temp / f"sshd-{number}.txt").open("w") as file:
            self._started.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", space, *own, *(word for one in options for word in ("-o", one))],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
            )

    def _wait(self, address: str) -> None:
        words = ["ssh", "-i", str(self.key), *(word for one in OPTIONS for word in ("-o", one)), f"root@{address}"]
        until = time.monotonic() + 20
        while (done := subprocess.run([*words, "echo $HOME"], capture_output=True, text=True)).returncode:
            assert time.monotonic() < until, done.stderr
            time.sleep(0.2)
        assert done.stdout.strip() == str(self.home(address)), "a machine has a home of its own"

    def __enter__(self) -> SshMachines:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def _first(pid: int) -> int:
    """The first process of the machine that a process has made."""
    return int(subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()[0])


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30)
