"""Which Ray clusters run, and where their dashboards are; connects to none of them as a driver."""

from __future__ import annotations

import os
from typing import Any

from cluster.connection import authenticate, listens
from cluster.errors import ClusterError
from cluster.gcs import asked

ANSWER_SECONDS = 5


def running_dashboards(address: str | None = None) -> dict[str, str]:
    """Dashboard addresses by cluster address: of `address`, else of $RAY_ADDRESS, else of all clusters on this machine.

    Left out are clusters that run without a dashboard, that do not answer, or whose token is not known here.
    """
    authenticate(create_token=False)
    from ray._private.services import find_gcs_addresses

    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    clusters = sorted(find_gcs_addresses()) if address in ("auto", "local") else [address]
    found = {cluster: _dashboard(cluster) for cluster in clusters}
    return {cluster: url for cluster, url in found.items() if url is not None}


def _dashboard(cluster: str) -> str | None:
    """The cluster's dashboard, if the cluster answers in time and something listens at the address it gives."""
    from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD

    def noted(head: Any) -> str:
        found = head.internal_kv_get(DASHBOARD_ADDRESS.encode(), KV_NAMESPACE_DASHBOARD, timeout=ANSWER_SECONDS)
        return str(found.decode()) if found else ""

    try:
        address = asked(cluster, noted, ANSWER_SECONDS)
    except ClusterError:
        return None
    return f"http://{address}" if address and listens(address) else None
