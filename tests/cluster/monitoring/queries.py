"""The dashboard's queries, and a Prometheus's answers to them."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

ALL_MATRICES = ".*"  # what Grafana puts in place of the variable when all are chosen


def expressions(dashboard: Mapping[str, Any]) -> list[str]:
    """The expressions of all panels."""
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def ask(prometheus: str, expression: str, matrix: str = ALL_MATRICES) -> list[dict[str, Any]]:
    """The answer to an expression now: series with `metric` (its labels) and `value`; fails when it does not parse."""
    query = urllib.parse.urlencode({"query": expression.replace("$matrix", matrix)})
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=10) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expression}: {error.read().decode(errors='replace')}") from None
    assert found["status"] == "success", found
    series: list[dict[str, Any]] = found["data"]["result"]
    return series
