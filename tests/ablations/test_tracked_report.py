"""What MLflow gets of a report, and that it gets it once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablations.arms import Arm
from ablations.running import run_plan
from ablations.tracked_report import readable, report_files, report_metrics, report_tags, varied_params
from ablations.tracking import attach
from cluster.tracking.values import clean_key


def test_numbers_and_verdicts_of_every_arm(make_report: Any) -> None:
    report, _ = make_report({"1-1": [3.1, 3.2, 3.0], "lr=0.1": [2.6, 2.71, 2.5], "gone": [None, None, None]})
    metrics, tags = report_metrics(report), report_tags(report)
    assert metrics["mean/1-1"] == pytest.approx(3.1) and metrics["seeds/gone"] == 0
    assert metrics["diff/lr:0.1"] == pytest.approx(-0.4967, abs=1e-4)
    assert metrics["diff_low/lr:0.1"] < metrics["diff/lr:0.1"] < metrics["diff_high/lr:0.1"] < 0
    assert 0 < metrics["p_holm/lr:0.1"] < 0.05 and metrics["d_z/lr:0.1"] < 0
    assert not {"mean/gone", "diff/gone", "diff/1-1", "p_holm/1-1"} & metrics.keys(), "what is missing is left out"
    assert tags["verdict/lr:0.1"] == "better" and tags["verdict/1-1"] == "baseline"
    assert all(clean_key(key) == key for key in {*metrics, *tags}), "as MLflow takes them"


def test_names_of_arms_stay_apart() -> None:
    assert readable(["lr=0.1,d=2", "x"]) == {"lr=0.1,d=2": "lr:0.1 d:2", "x": "x"}
    assert readable(["a=b", "a:b"]) == {"a=b": "a=b", "a:b": "a:b"}


def test_what_the_arms_vary_is_a_param_of_its_own() -> None:
    settings: dict[str, dict[str, Any]] = {"a": {"lr": 0.1}, "b": {"temporal_depth_1": 3, "dropout": 0.1}}
    arms = [Arm(name, own, False, "here") for name, own in settings.items()]
    base = {"training.lr": 0.1, "model.temporal_depth_1": 2, "model.dropout": 0.1, "training.epochs": 3}
    params = varied_params(arms, {"a": base, "b": {**base, "training.lr": 0.5, "model.temporal_depth_1": 3}})
    assert params["a"] == {"arm": "a", "arm.temporal_depth_1": 2, "arm.lr": 0.1}
    assert params["b"] == {"arm": "b", "arm.temporal_depth_1": 3, "arm.lr": 0.5}


def test_files_that_are_there_go_along(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    for name in ("report.md", "report.tex", "plots/a.png", "plots/a.pdf", "other.txt"):
        (tmp_path / name).touch()
    assert [(path.name, place) for path, place in report_files(tmp_path)] == [
        ("report.md", ""),
        ("report.tex", ""),
        ("a.png", "plots"),
        ("a.pdf", "plots"),
    ]


def runs(out: Path) -> tuple[Any, Any, list[Any]]:
    """Client, parent and children of everything in the database."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    [parent] = [run for run in found if run.data.tags["kind"] == "matrix"]
    return client, parent, [run for run in found if run is not parent]


@pytest.mark.slow
def test_the_parent_run_has_the_statistics_once(make_folder: Any, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    maes = {"low": [3.1, 3.2, None], "high": [2.6, 2.71, None]}
    plan = make_folder.plan("rates", "", maes)
    run_plan(plan, None, out, train=False)  # type: ignore[arg-type]
    client, parent, children = runs(out)
    assert parent.data.metrics["mean/low"] == pytest.approx(3.15)
    assert parent.data.tags["verdict/high"] == "not enough seeds"
    assert {child.data.params["arm.lr"] for child in children} == {"0.001", "0.003"}
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.md", "report.html", "report.tex", "cells.csv", "plots"} <= files

    (plan.folder / "report.md").unlink()  # reported once more, with the same cells
    run_plan(plan.refreshed(), None, out, train=False)  # type: ignore[arg-type]
    assert len(client.get_metric_history(parent.info.run_id, "mean/low")) == 1

    plan = make_folder.plan("rates", "", {"low": [3.1, 3.2, 3.3], "high": [2.6, 2.71, 2.8]})
    run_plan(plan, None, out, train=False)  # type: ignore[arg-type]
    history = client.get_metric_history(parent.info.run_id, "mean/low")
    assert [(point.step, round(point.value, 4)) for point in history] == [(4, 3.15), (6, 3.2)]
    assert client.get_run(parent.info.run_id).data.tags["verdict/high"] == "better"

    (tmp_path / "summary.md").write_text("over all")
    attach(plan, out, [(tmp_path / "summary.md", "")])
    _, same, _ = runs(out)
    assert same.info.run_id == parent.info.run_id and same.info.status == "FINISHED"
    assert "summary.md" in {file.path for file in client.list_artifacts(parent.info.run_id)}
