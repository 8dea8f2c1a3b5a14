"""Grafana's files: the dashboard's form, its queries before a real Prometheus, and what makes Grafana find it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.launch.local import free_port
from cluster.metrics import GAUGES
from cluster.monitoring import grafana, prometheus
from tests.cluster.monitoring.queries import ask, expressions

ROOT = Path(__file__).parents[3]
DASHBOARD: dict[str, Any] = json.loads(grafana.DASHBOARD.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
OF_GAUGE = re.compile(r"ray_(altformer_\w+)(?:\{([^}]*)\})?")


@pytest.fixture(scope="module")
def empty_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that asks nobody."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs Prometheus: apt-get install prometheus")
    port = free_port()
    with prometheus.running(tmp_path_factory.mktemp("none") / "discovery.json", port):
        yield f"http://127.0.0.1:{port}"


def test_panels_have_what_grafana_asks_for() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["uid"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABC"[: len(panel["targets"])])
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert {"x", "y", "w", "h"} == panel["gridPos"].keys()
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.parametrize(("one", "other"), combinations(PANELS, 2), ids=lambda panel: panel["title"])
def test_no_panel_covers_another(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = one["gridPos"], other["gridPos"]
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


def test_every_metric_of_ours_has_its_place_and_no_other_is_asked_for() -> None:
    asked = {name for expression in expressions(DASHBOARD) for name, _ in OF_GAUGE.findall(expression)}
    assert asked == set(GAUGES)


@pytest.mark.parametrize("expression", expressions(DASHBOARD))
def test_queries_name_tags_that_the_metric_has_and_the_chosen_matrix(expression: str) -> None:
    for name, selectors in OF_GAUGE.findall(expression):
        tags = {"matrix", *GAUGES[name][1]}
        assert set(re.findall(r"(\w+)=", selectors)) <= tags
        assert 'matrix=~"$matrix"' in selectors
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert set(grouped.replace(" ", "").split(",")) <= tags


def test_variables_are_the_data_source_and_the_matrix() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["matrix"]["allValue"] == ".*"
    assert variables["matrix"]["query"]["query"] == "label_values(ray_altformer_slots, matrix)"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([DASHBOARD["panels"]])))
    assert used == {"datasource", "matrix"}


@pytest.mark.parametrize("expression", expressions(DASHBOARD))
def test_prometheus_takes_every_query(empty_prometheus: str, expression: str) -> None:
    assert ask(empty_prometheus, expression) == [], "nobody was asked, so there is nothing"


def test_grafana_is_told_where_dashboard_and_prometheus_are() -> None:
    environment = grafana.environment("http://127.0.0.1:9090")
    [source_file] = (grafana.PROVISIONING / "datasources").glob("*.yaml")
    [source] = yaml.safe_load(source_file.read_text())["datasources"]
    [provider_file] = (grafana.PROVISIONING / "dashboards").glob("*.yaml")
    [provider] = yaml.safe_load(provider_file.read_text())["providers"]
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    assert environment[source["url"].removeprefix("$")] == "http://127.0.0.1:9090"
    assert provider["type"] == "file"
    folder = Path(environment[provider["options"]["path"].removeprefix("$")])
    assert grafana.DASHBOARD in folder.iterdir()
    assert Path(environment["GF_PATHS_PROVISIONING"]) == grafana.PROVISIONING


def test_the_line_for_a_shell_says_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(grafana, "PROVISIONING", tmp_path / "a folder; of mine")
    *settings, program, server = shlex.split(grafana.command("http://127.0.0.1:9091"))
    told = dict(setting.split("=", 1) for setting in settings)
    assert (program, server) == ("grafana", "server")
    assert told == {**grafana.environment("http://127.0.0.1:9091"), "GF_SERVER_HTTP_ADDR": "127.0.0.1"}


def test_an_installed_package_has_the_files() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["cluster"]
    files = [path for path in grafana.FOLDER.rglob("*") if path.suffix in (".json", ".yaml")]
    assert len(files) == 3
    for file in files:
        name = file.relative_to(ROOT / "cluster").as_posix()
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_the_document_names_every_metric_with_its_tags() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    rows: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`ray_altformer.*?) \| (.*?) \|", text, re.MULTILINE):
        names, tags = (set(re.findall(r"`(\w+)`", cell)) for cell in row)
        rows |= dict.fromkeys((name.removeprefix("ray_") for name in names), tags)
    assert rows == {name: set(tags) for name, (_, tags) in GAUGES.items()}
