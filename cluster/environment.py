"""Environment variables of our processes: those that all of them get, and others for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: Neither Ray nor MLflow tells others what runs here, and MLflow reads no pickled models, which could run anything.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set them in this process until the context is left, then as they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
