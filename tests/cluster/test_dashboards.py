"""Finding the dashboards of running clusters."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.connection import connect
from cluster.dashboards import running_dashboards


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "nonsense", "127.0.0.1:x", "[::1"])
def test_no_cluster_no_dashboard(address: str) -> None:
    assert running_dashboards(address) == {}


def test_something_else_at_the_address_is_no_cluster(other_program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.dashboards.ANSWER_SECONDS", 1)
    assert running_dashboards(other_program) == {}


@pytest.mark.ray
def test_the_dashboard_of_a_running_cluster_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connect("local", num_cpus=1) as connection:
        assert connection.dashboard_url is not None
        assert running_dashboards(connection.address) == {connection.address: connection.dashboard_url}
        assert running_dashboards()[connection.address] == connection.dashboard_url
    assert running_dashboards(connection.address) == {}
