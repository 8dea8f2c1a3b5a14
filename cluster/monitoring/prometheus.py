"""A Prometheus of our own for a Ray cluster, on this machine only."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from cluster.errors import ClusterError

HOST = "127.0.0.1"  # its pages ask for no password

#: Ray's own report interval: what is asked for more often has not changed.
SCRAPE_SECONDS = 10

_READY_SECONDS = 30.0
_LEAVE_SECONDS = 10.0


def config(discovery: Path) -> str:
    """The configuration file's text: every address in Ray's file `discovery` is asked every SCRAPE_SECONDS.

    Ray's metrics ask for no token, also where Ray itself does.
    """
    job = {
        "job_name": "ray",
        "file_sd_configs": [{"files": [str(discovery)], "refresh_interval": f"{SCRAPE_SECONDS}s"}],
        # Three labels that are the same everywhere.
        "metric_relabel_configs": [{"action": "labeldrop", "regex": "otel_scope_.+"}],
    }
    interval = f"{SCRAPE_SECONDS}s"
    content = {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": [job]}
    return yaml.safe_dump(content, sort_keys=False)


def program() -> str:
    """Where Prometheus is; raises ClusterError with the way to install it."""
    found = shutil.which("prometheus")
    if found is None:
        raise ClusterError(
            "there is no program `prometheus` on this machine: `apt-get install prometheus` has it on Debian and "
            "Ubuntu, and https://prometheus.io/download for other systems"
        )
    return found


@contextmanager
def running(discovery: Path, port: int, data: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A Prometheus for the cluster with this file of addresses, at http://127.0.0.1:`port`, until the context is left.

    Its history is in `data`, else in a folder that goes with it. Raises ClusterError with its last words when it does
    not start.
    """
    binary = program()
    with tempfile.TemporaryDirectory(prefix="altformer-prometheus-") as own:
        file, log = Path(own) / "prometheus.yml", Path(own) / "log.txt"
        file.write_text(config(discovery))
        history = data.resolve() if data else Path(own) / "data"
        command = [*_that_ends_with_us(), binary, f"--config.file={file}", f"--storage.tsdb.path={history}"]
        command += [f"--web.listen-address={HOST}:{port}", "--log.level=warn"]
        with log.open("wb") as output:
            # In a session of its own: Ctrl-C is for us, who end it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            _wait_until_ready(process, port, log)
            yield process
        finally:
            _end(process)


def _that_ends_with_us() -> list[str]:
    """What to start a program with so that it ends when we are killed or our terminal is closed; Linux has it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise ClusterError(f"Prometheus does not start: {lines[-1] if lines else 'it has said nothing'}")
        time.sleep(0.1)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)  # past any proxy
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
