"""What docs/adding.md shows is short, fits the sources, and works: every section in a copy of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
SHORT = 15  # lines of diff; each has fewer
TINY = "--epochs 1 --steps_per_epoch 2 --device cpu --threads 1 --out runs"
TINY_NETWORK = "--sensors 4 --days 3"


class Copy:
    """A copy of the sources with what a section of the page shows, and a folder for its files."""

    def __init__(self, folder: Path, title: str) -> None:
        self.sources, self.work = folder / "sources", folder / "work"
        blocks = BLOCK.findall(SECTIONS[title])
        self.commands = [
            shlex.split(line, comments=True) for kind, text in blocks if kind == "bash" for line in text.splitlines()
        ]
        self.diffs = [text for kind, text in blocks if kind == "diff"]
        self.files = {text.splitlines()[0].removeprefix("# "): text for kind, text in blocks if kind == "yaml"}
        self.texts = [text for kind, text in blocks if kind == "text"]
        for package in ("altformer", "cluster", "experiments", "ablations"):
            shutil.copytree(
                ROOT / package, self.sources / package, ignore=shutil.ignore_patterns("__pycache__", "results")
            )
        shutil.copy(ROOT / "pyproject.toml", self.sources)
        self.work.mkdir()
        for diff in self.diffs:
            self.checked(["git", "apply", "-p0", "-"], self.sources, given=diff)
        for name, text in self.files.items():
            (self.work / name).write_text(text)

    def altformer(self, arguments: list[str]) -> str:
        """What the command prints with the copy's sources."""
        return self.checked([sys.executable, "-m", "experiments.cli", *arguments], self.work)

    def checked(self, command: list[str], folder: Path, given: str = "") -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.sources), "GIT_DIR": str(folder / "none"), "COLUMNS": "160"}
        done = subprocess.run(
            command, cwd=folder, env=environment, input=given, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def train(self, command: list[str], network: str = TINY_NETWORK) -> dict:
        """The record of a command of the page, made small."""
        program, *rest = command
        assert (program, rest[0]) == ("altformer", "train")
        self.altformer([*rest, *network.split(), *TINY.split()])
        [record] = (self.work / "runs" / "cells").glob("*/record.json")
        found: dict = json.loads(record.read_text())
        assert found["status"] == "done"
        return found


def added_and_removed(diff: str) -> int:
    return sum(line.startswith(("+", "-")) and line[:3] not in ("+++", "---") for line in diff.splitlines())


def test_everything_asked_for_is_shown_in_few_lines() -> None:
    things = ["fusion", "positional encoding", "data set from your own file", "matrix", "metric", "schedule"]
    assert list(SECTIONS) == [f"A {thing}" for thing in things]
    for title, section in SECTIONS.items():
        blocks = BLOCK.findall(section)
        for kind, text in blocks:
            lines = added_and_removed(text) if kind == "diff" else text.count("\n")
            assert kind not in ("diff", "yaml") or 0 < lines < SHORT, f"{title}: {lines} lines of {kind}"
        assert {"diff", "yaml"} & {kind for kind, _ in blocks} and "bash" in {kind for kind, _ in blocks}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "field", "value"),
    [
        ("A fusion", "model.fusion_type", "largest"),
        ("A positional encoding", "model.positional_encoding_type", "linear_bias"),
        ("A schedule", "training.scheduler.type", "PolynomialLR"),
    ],
)
def test_a_diff_applies_is_well_written_and_trains(title: str, field: str, value: str, tmp_path: Path) -> None:
    copy = Copy(tmp_path, title)
    for check in (["check"], ["format", "--check"]):
        copy.checked([sys.executable, "-m", "ruff", *check, "altformer", "ablations"], copy.sources)
    [command] = copy.commands
    found = copy.train(command)["config"]
    for name in field.split("."):
        found = found[name]
    assert found == value


@pytest.mark.slow
def test_a_file_of_your_own_is_checked_and_trained_on(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "A data set from your own file")
    [header, first, *_] = copy.texts[0].splitlines()
    assert first.count(",") == header.count(",") == 4
    times = [
        f"2024-01-{day:02d} {hour:02d}:{minute:02d}"
        for day in range(1, 9)
        for hour in range(24)
        for minute in range(0, 60, 15)
    ]
    rows = [
        f"{time},{100 + k % 96},{90 - k % 7},{'' if k == 5 else k % 50 + 20},{k % 9 + 1}"
        for k, time in enumerate(times)
    ]
    (copy.work / "counts.csv").write_text("\n".join([header, *rows]) + "\n")
    check, train = copy.commands
    assert "counts.csv" in copy.altformer(check[1:])
    assert copy.train(train, network="")["dataset"] == "counts.csv"


def test_a_matrix_is_a_file(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "A matrix")
    [command] = copy.commands
    printed = copy.altformer([*command[1:], "--probe-seconds", "0"])
    assert "4 heads (baseline)" in printed and "8 heads" in printed


@pytest.mark.slow
@pytest.mark.ray
def test_a_metric_reaches_record_table_and_verdict(tmp_path: Path) -> None:
    copy = Copy(tmp_path, "A metric")
    for check in (["check"], ["format", "--check"]):
        copy.checked([sys.executable, "-m", "ruff", *check, "altformer", "ablations"], copy.sources)
    train, ablate = copy.commands
    scores = copy.train(train)["test"]
    assert all(0 < scores[step]["wape"] < 100 for step in ("3", "6", "12", "all"))
    assert ablate[-1] == "--dry-run"
    small = [f"--set={field}" for field in ("sensors=4", "days=3", "epochs=1", "steps_per_epoch=2")]
    rest = ["--seeds", "3", "--out", "matrix", "--no-mlflow", "--probe-seconds", "0", *small]
    copy.altformer([*ablate[1:-1], *rest])
    [folder] = (copy.work / "matrix").glob("wape-simulated-*")
    report, table = (folder / "report.md").read_text(), (folder / "cells.csv").read_text()
    assert "test WAPE" in report and "%" in report.partition("test WAPE")[2].partition("\n")[0]
    assert "test_wape" in table.splitlines()[0]
