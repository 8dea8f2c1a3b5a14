"""Finding the file in which Ray writes where its metrics are."""

from __future__ import annotations

import json
import urllib.request

import pytest

from cluster.connection import connect
from cluster.errors import ClusterError
from cluster.monitoring.discovery import discovery_file


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "nonsense", "127.0.0.1:x", "[::1"])
def test_no_cluster_at_the_address(address: str) -> None:
    with pytest.raises(ClusterError, match="does not answer"):
        discovery_file(address)


def test_something_else_at_the_address_is_no_cluster(other_program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.monitoring.discovery.ANSWER_SECONDS", 1)
    with pytest.raises(ClusterError, match="does not answer"):
        discovery_file(other_program)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        (set(), "no Ray cluster runs on this machine: there is one during `altformer ablate"),
        ({"127.0.0.1:2", "127.0.0.1:1"}, "2 Ray clusters run on this machine; choose with --address: 127.0.0.1:1, 127"),
    ],
)
def test_without_an_address_there_must_be_one_cluster(
    monkeypatch: pytest.MonkeyPatch, clusters: set[str], message: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: clusters)
    monkeypatch.setattr("cluster.monitoring.discovery.listens", lambda address: True)
    with pytest.raises(ClusterError, match=message):
        discovery_file()


@pytest.mark.ray
def test_the_file_of_a_running_cluster_names_addresses_that_ask_for_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should Ray's metrics ask for its token one day, this fails, and the configuration has to give it."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with connect("local", num_cpus=1) as connection:
        file = discovery_file(connection.address)
        [found] = json.loads(file.read_text())
        assert found["targets"]
        for target in found["targets"]:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
                assert answer.status == 200
                assert b"# TYPE" in answer.read()
