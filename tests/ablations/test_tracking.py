"""What a matrix hands to MLflow with its cells."""

from __future__ import annotations

import os

import pytest

from ablations.matrix import Matrix
from ablations.planning import make_plan
from ablations.tracking import MatrixTracker
from experiments.cell import Machine


@pytest.fixture
def tracker(traffic, tmp_path):
    matrix = Matrix.model_validate({"name": "m", "base": "simulated", "arms": {"a": {}}, "baseline": "a"})
    plan = make_plan(
        matrix, traffic, Machine(), dataset=None, profile="quick", settings={}, seeds=1, out=tmp_path / "runs"
    )
    return MatrixTracker(plan, None, {})


def test_a_cells_plots_are_drawn_once_for_all_matrices_that_have_it(tracker, make_record, tmp_path):
    (tmp_path / "record.json").write_text("{}")
    first = tracker._plots(tmp_path, make_record())
    assert {path.name for path in first} == {"loss.png", "horizons.png"}
    drawn = {path: path.stat().st_mtime_ns for path in first}
    assert sorted(tracker._plots(tmp_path, make_record())) == sorted(first)
    assert {path: path.stat().st_mtime_ns for path in first} == drawn
    later = max(drawn.values()) + 10**9
    os.utime(tmp_path / "record.json", ns=(later, later))  # the cell was trained again
    tracker._plots(tmp_path, make_record())
    assert all(path.stat().st_mtime_ns != drawn[path] for path in first)
