"""The configurations that the tests render: all defaults, and none of them."""

from __future__ import annotations

from pathlib import Path

from cluster.launch.config import ClusterConfig
from experiments.cluster_command import load_config

FOLDER = Path(__file__).parent
CONFIGS: dict[str, ClusterConfig] = {"default": ClusterConfig(), "full": load_config(FOLDER / "full.yaml")}
