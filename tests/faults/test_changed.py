"""Configuration, code or data changed between start and resume: what is reused, what runs again, what is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.faults.harness import Matrix
from tests.faults.process import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture
def matrix(tmp_path):
    """Two cells on a file of the user's own."""
    matrix = Matrix(tmp_path, epochs=3)
    for name in ("sensors", "days"):
        del matrix.content["settings"][name]
    source = {"path": str(tmp_path / "mine.csv"), "freq": "30min", "split": [7, 1, 2], "null_value": 0}
    matrix.experiment |= {"base": "alternating.yaml", "dataset": source}
    matrix.write()
    write_readings(tmp_path / "mine.csv")
    return matrix


def write_readings(path, more=0.0):
    rng = np.random.default_rng(0)
    times = pd.date_range("2026-01-01", periods=480, freq="30min", name="time")
    readings = 50 + 10 * np.sin(np.arange(480) / 24 * np.pi)[:, None] + rng.normal(0, 1, (480, 5))
    readings[100] += more
    pd.DataFrame(readings.round(2), index=times, columns=list("abcde")).to_csv(path)


def sources(folder):
    """A copy of our sources with another comment in altformer, as after an update of a checkout."""
    for package in ("altformer", "cluster", "experiments", "ablations", "tests/faults"):
        ignored = shutil.ignore_patterns("__pycache__", "results", "*.png")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    with (folder / "altformer" / "scores.py").open("a") as file:
        file.write("# another version\n")
    return {"PYTHONPATH": str(folder)}


def folders(matrix):
    """The folder of this matrix on each of the data."""
    return sorted(matrix.out.glob(f"{matrix.name}-*/plan.json"))


def contents(folder: Path):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.fault("changed")
def test_what_has_changed_is_said_and_strict_refuses(matrix, tmp_path, close, fault_table):
    first = close(matrix.start("--max-cells", "1"))
    assert first.wait() == 3, first.output
    before = contents(matrix.out)

    def said(env=None):
        """What the plan says of it; refused by --strict, with nothing written by either."""
        shown, strict = (close(matrix.start(option, env=env)) for option in ("--dry-run", "--strict"))
        assert (shown.wait(), strict.wait()) == (0, 2), shown.output + strict.output
        assert contents(matrix.out) == before
        [line] = [line for line in shown.output.splitlines() if line.startswith("Changed: ")]
        text = line.removeprefix("Changed: ")
        [refused] = [line for line in strict.output.splitlines() if line.startswith("altformer: ")]
        assert refused == f"altformer: --strict: {text}; without --strict they are run"
        assert text.startswith("1 cell runs again (low seed 0): since the last run ")
        return text

    matrix.arms["low"]["lr"] = 0.002
    matrix.write()
    assert "the configuration has changed: training.lr 0.001 -> 0.002" in said()
    matrix.arms["low"]["lr"] = 1e-3
    matrix.write()
    assert "the sources of altformer have changed" in said(sources(tmp_path / "update"))
    write_readings(tmp_path / "mine.csv", more=1.0)
    assert "the data have changed" in said()
    write_readings(tmp_path / "mine.csv")

    again = close(matrix.start("--strict"))
    assert again.wait() == 0, again.output
    assert "Changed" not in again.output and len(folders(matrix)) == 1
    [kept] = [path for path in before if path.name == "record.json"]
    assert kept.read_bytes() == before[kept] and len(list(matrix.out.glob("cells/*/record.json"))) == 2
    fault_table.row(
        "the configuration of an arm, the sources of altformer, a reading of the user's file",
        "each said with the cell that runs again; --strict ends with 2 and writes nothing; put back, all is reused",
        changes=3,
        reused=1,
    )
