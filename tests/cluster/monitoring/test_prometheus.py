"""Prometheus: its configuration, its start and its end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.launch.local import free_port
from cluster.monitoring import prometheus
from tests.faults.process import running

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus"
)


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_any_path_goes_into_the_configuration_as_it_is(name: str) -> None:
    path = Path("/somewhere") / name.replace("/", "_") / "file.json"
    [job] = yaml.safe_load(prometheus.config(path))["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == [str(path)]


def test_the_configuration_has_nothing_secret() -> None:
    """Ray's metrics ask for no token, so none is given to whoever listens at the addresses in the file."""
    text = prometheus.config(Path("/tmp/file.json"))
    assert "authorization" not in text
    assert "bearer" not in text


@needs_prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of the package prometheus")
def test_prometheus_finds_the_configuration_right(tmp_path: Path) -> None:
    (tmp_path / "discovery.json").write_text('[{"labels": {"job": "ray"}, "targets": ["127.0.0.1:1"]}]')
    (tmp_path / "prometheus.yml").write_text(prometheus.config(tmp_path / "discovery.json"))
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_without_prometheus_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match=r"no program `prometheus` .* `apt-get install prometheus`"):
        prometheus.program()


@needs_prometheus
def test_it_listens_on_this_machine_only_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    with prometheus.running(tmp_path / "discovery.json", port) as process:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
            assert answer.status == 200
        [file] = [arg for arg in process.args if str(arg).startswith("--config.file=")]  # type: ignore[union-attr]
        own = Path(str(file).partition("=")[2]).parent
        assert own.stat().st_mode & 0o077 == 0, "its history is nobody else's"
        assert listening_addresses(port) == {"127.0.0.1"}
    assert process.returncode is not None
    assert not own.exists()


@needs_prometheus
def test_the_history_stays_where_it_was_asked_for(tmp_path: Path) -> None:
    with prometheus.running(tmp_path / "discovery.json", free_port(), tmp_path / "history"):
        pass
    assert (tmp_path / "history" / "wal").is_dir()


@needs_prometheus
def test_where_it_cannot_start_its_last_words_are_given(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with (
            pytest.raises(ClusterError, match=r"Prometheus does not start: .*address already in use"),
            prometheus.running(tmp_path / "discovery.json", port),
        ):
            pass
    assert [title for _, title in running() if f"--web.listen-address=127.0.0.1:{port}" in title] == []


def listening_addresses(port: int) -> set[str]:
    """The addresses of this machine that something listens on at this port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, at = fields[1].partition(":")
            if int(at, 16) == port and fields[3] == "0A":
                is_four = len(address) == 8
                found.add(socket.inet_ntoa(bytes.fromhex(address)[::-1]) if is_four else address)
    return found
