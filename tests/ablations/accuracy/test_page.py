"""The page and the log say what the records say."""

from __future__ import annotations

import csv
import re
import shlex

import pytest
import yaml

from ablations.accuracy.plan import load_plan
from ablations.accuracy.steps import AccuracyCampaign
from ablations.accuracy.tried import LOG, MARKER
from altformer.config import Config
from experiments.cell import Machine
from experiments.cli import main
from tests.ablations.accuracy.conftest import write_plan


def publish(path, out, to, *more):
    assert main(["campaign", str(path), *more, "--publish", str(to), "--out", str(out)]) == 0
    return (to / "accuracy.md").read_text()


def steps_of(path, out):
    return AccuracyCampaign(load_plan(str(path)), Machine("cpu", 1), out).steps()


@pytest.fixture(scope="module")
def published(toy, trained, tmp_path_factory):
    to = tmp_path_factory.mktemp("published")
    return to, publish(toy, trained, to)


def test_the_final_rows_are_means_over_seeds(published, toy, trained):
    _, text = published
    task = steps_of(toy, trained)[3].tasks[0]
    maes = [at.record["test"]["all"]["mae"] for at in task.cells]
    spread = (sum((mae - sum(maes) / 3) ** 2 for mae in maes) / 2) ** 0.5
    assert f"| {sum(maes) / 3:.3f} ± {spread:.3f} |" in text
    row = next(line for line in text.splitlines() if line.startswith("| toy: final"))
    assert row.endswith(f"| {task.params:,} |") and "| 3 |" in row
    assert "not comparable with published numbers" in text  # not every window is scored


def test_goals_are_judged(published):
    _, text = published
    verdicts = re.findall(r"\| toy \| simulated \| (.+?) \| .+? \| (.+?) \|", text)
    assert verdicts == [
        ("test MAE &lt; 1000", "met (final)"),
        ("test MAE &lt;= 0.001", "not met (final)"),
        ("minutes per seed &lt; 5", "met (final)"),
    ]


def test_the_commands_repeat_the_configurations(published, toy, trained):
    to, text = published
    [command] = re.findall(r"altformer train .*toy-final-simulated.yaml.*", text)
    options = shlex.split(command)
    written = Config.model_validate(yaml.safe_load((to / "accuracy" / "toy-final-simulated.yaml").read_text()))
    assert written == steps_of(toy, trained)[3].tasks[0].config
    assert options[2:4] == ["--cfg", str(to / "accuracy" / "toy-final-simulated.yaml")]
    assert main([*options[1:], "--out", str(trained)]) == 0


def test_beside_the_page_lie_every_cell_and_the_curves(published, toy, trained):
    to, text = published
    with (to / "accuracy" / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(task.cells) for step in steps_of(toy, trained) for task in step.tasks)
    assert {row["arm"] for row in rows if row["test_mae"] == "-"} == {
        "toy/tune rate/start",
        "toy/tune rate/tiny",
        "toy/tune rate/fast",
        "toy/tune size/start",
        "toy/tune size/narrow",
    }
    for name in re.findall(r"\]\((accuracy/\S+\.png)\)", text):
        assert (to / name).read_bytes().startswith(b"\x89PNG")
    assert (to / "test_ledger-simulated.jsonl").is_file()


def test_candidates_and_ablations_have_their_tables(published):
    _, text = published
    assert len(re.findall(r"^\| (?:rate|size) \| \w+ \|.*\| chosen \|$", text, re.MULTILINE)) == 2
    assert re.search(r"^\| no\\_average \| ema\\_decay=0 \| .*2 seeds in common", text, re.MULTILINE)
    assert "Not done yet" not in text and "Waits for a GPU" not in text


def test_the_page_is_the_same_each_time(published, toy, trained, tmp_path):
    again = publish(toy, trained, tmp_path).replace(str(tmp_path), str(published[0]))
    assert again == published[1]


def test_what_is_not_done_is_listed_by_what_it_waits_for(tmp_path):
    cpu = write_plan(tmp_path)
    gpu = write_plan(tmp_path, ("name: toy", "name: big"), ("device: cpu", "device: cuda"), name="big")
    text = publish(cpu, tmp_path / "runs", tmp_path / "to", str(gpu))
    waiting, _, later = text.partition("## Waits for a GPU")[2].partition("## Not done yet")
    assert "- big, first: 2 of 2 cells (simulated): `altformer campaign" in waiting
    assert "- big, tune size: 2 of 2 cells (start, narrow); starts from what is chosen before: " in waiting
    assert "- toy, first: 2 of 2 cells" in later and "big" not in later
    assert "| toy | simulated | test MAE &lt; 1000 | - | open |" in text


def test_the_log_has_what_did_not_help_and_keeps_what_is_written_by_hand(toy, trained, tmp_path, published):
    steps = steps_of(toy, trained)
    worse = [task.cells[0].record for step in steps[1:3] for task in step.tasks[1:] if task.val >= step.tasks[0].val]
    log = (published[0] / LOG).read_text()
    assert sorted(re.findall(r"\[([0-9a-f]{16})\]$", log, re.MULTILINE)) == sorted(one["cell_hash"] for one in worse)
    for record in worse:
        [line] = [line for line in log.splitlines() if record["cell_hash"] in line]
        assert f"val MAE {record['val']['all']['mae']:.4f}, +" in line and "commit " in line and " parameters" in line
    gone = "- older, tune x, y: val MAE 3.0000, +0.1 [0123456789abcdef]"
    (tmp_path / LOG).write_text(f"# Mine\n\nA finding.\n\n{MARKER}\n\n{gone}\n{log.partition(MARKER)[2].strip()}\n")
    publish(toy, trained, tmp_path)
    by_hand, _, below = (tmp_path / LOG).read_text().partition(MARKER)
    assert by_hand == "# Mine\n\nA finding.\n\n"
    assert below.strip().splitlines() == [gone, *log.partition(MARKER)[2].strip().splitlines()]
