"""Where a running Ray cluster writes down the addresses at which its nodes offer their metrics."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from cluster.connection import authenticate, listens
from cluster.errors import ClusterError
from cluster.gcs import asked

#: In the folder of the head's session; Ray's own constant for it is private.
FILE = "prom_metrics_service_discovery.json"

ANSWER_SECONDS = 10

#: Within which a cluster that has just been started has written it.
WRITTEN_SECONDS = 10


def discovery_file(address: str | None = None) -> Path:
    """The file of the cluster at `address`, else at $RAY_ADDRESS, else of the one that runs on this machine.

    Ray keeps it up to date as nodes come and go. Raises ClusterError where there is no such cluster, more than one to
    choose from, or no such file: the head writes it, on its own disk, and only with its dashboard.
    """
    authenticate(create_token=False)
    cluster = _the_cluster(address or os.environ.get("RAY_ADDRESS") or "auto")
    session = _session_of(cluster)
    if session is None:
        raise ClusterError(
            f"the Ray cluster at {cluster} does not answer, or does not accept the token known here; the address is "
            "`host:port` of the head node (usually port 6379)"
        )
    file, until = session / FILE, time.monotonic() + WRITTEN_SECONDS
    while not file.is_file() and time.monotonic() < until:
        time.sleep(0.2)
    if file.is_file():
        return file
    raise ClusterError(
        f"the Ray cluster at {cluster} has no file {file} with the addresses of "
        "its metrics: run this on the head node, whose Ray must have a dashboard (no `--include-dashboard=false`)"
    )


def _the_cluster(address: str) -> str:
    if address not in ("auto", "local"):
        return address
    from ray._private.services import find_gcs_addresses

    found: list[str] = sorted(cluster for cluster in find_gcs_addresses() if listens(cluster))
    if not found:
        raise ClusterError(
            "no Ray cluster runs on this machine: there is one during `altformer ablate ...` in another terminal; for "
            "a cluster elsewhere give --address HOST:PORT or set RAY_ADDRESS"
        )
    if len(found) > 1:
        raise ClusterError(f"{len(found)} Ray clusters run on this machine; choose with --address: {', '.join(found)}")
    return found[0]


def _session_of(cluster: str) -> Path | None:
    """The head's folder of the cluster's session, if the cluster answers in time."""

    def folders(head: Any) -> list[Path]:
        nodes = head.get_all_node_info(timeout=ANSWER_SECONDS).values()
        return [Path(node.session_dir) for node in nodes if node.is_head_node and node.session_dir]

    try:
        found = asked(cluster, folders, ANSWER_SECONDS)
    except ClusterError:
        return None
    return found[-1] if found else None
