"""Grafana's files, for a Grafana that the user has: our dashboard, and what makes Grafana find it by itself."""

from __future__ import annotations

import shlex
from pathlib import Path

FOLDER = Path(__file__).parent
PROVISIONING = FOLDER / "provisioning"
DASHBOARDS = FOLDER / "dashboards"
DASHBOARD = DASHBOARDS / "altformer.json"


def environment(prometheus: str) -> dict[str, str]:
    """What a Grafana must be started with to show our dashboard with the numbers of the Prometheus at this address."""
    return {
        "GF_PATHS_PROVISIONING": str(PROVISIONING),
        "ALTFORMER_DASHBOARDS": str(DASHBOARDS),
        "ALTFORMER_PROMETHEUS": prometheus,
    }


def command(prometheus: str) -> str:
    """The same as a line for a shell."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment(prometheus).items()]
    return " ".join([*settings, "GF_SERVER_HTTP_ADDR=127.0.0.1", "grafana", "server"])
