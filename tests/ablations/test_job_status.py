"""``altformer status --address``: a cluster's jobs."""

from __future__ import annotations

import json

import pytest

from cluster.jobs import Jobs
from experiments.cli import main
from tests.cluster.fake_jobs import FakeClient, details

ONE, OTHER = "depth-METR-LA-20260131-173000", "fusion-PEMS08-20260131-180000"
WHERE = ["--address", "http://head:8265"]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    out = {"matrix": "depth", "out": "/shared/runs", "commit": "0a1b2c with changes"}
    ended = details(OTHER, "FAILED", driver_exit_code=3, start_time=1_769_882_400_000, end_time=1_769_882_465_000)
    fake = FakeClient(ended, details(ONE, metadata=out))
    monkeypatch.setattr("cluster.jobs.connect_jobs", lambda address: Jobs(fake, address))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return fake


def test_all_jobs_a_line_each_the_oldest_first(client, capsys):
    assert main(["status", *WHERE]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["job", "state", "began", "duration", "exit", "code"]
    assert first.split()[:2] == [ONE, "RUNNING"] and first.split()[-1] == "-"
    assert second.split()[:2] == [OTHER, "FAILED"] and second.split()[-5:] == ["1", "min", "05", "s", "3"]


def test_one_job_with_its_command_and_where_its_results_are(client, capsys):
    assert main(["status", "depth", *WHERE]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{ONE}: RUNNING\n")
    assert "Command: exec python -m experiments.cli ablate depth\n" in printed
    assert "Sources: commit 0a1b2c with changes\n" in printed
    assert "Results: /shared/runs (there: altformer status --out /shared/runs)" in printed


def test_as_json_without_what_the_job_was_sent(client, capsys):
    assert main(["status", "--json", *WHERE]) == 0
    everything = capsys.readouterr().out
    assert [(job["id"], job["exit_code"]) for job in json.loads(everything)] == [(ONE, None), (OTHER, 3)]
    assert main(["status", OTHER, "--json", *WHERE]) == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["status"], one["ended"] - one["started"]) == ("FAILED", 65.0)
    assert "planted-secret" not in everything


def test_a_cluster_without_jobs_says_so(client, capsys):
    client.jobs.clear()
    assert main(["status", *WHERE]) == 0
    assert "No job was submitted to http://head:8265 yet" in capsys.readouterr().out
    assert main(["status", "depth", *WHERE]) == 2
    assert "unknown job 'depth' at http://head:8265; it has none" in capsys.readouterr().err


def test_a_name_that_would_move_the_cursor_does_not(client, capsys):
    client.jobs["x"] = details("x\x1b[2Jy", entrypoint="run \x1b[2J")
    assert main(["status", *WHERE]) == 0
    assert main(["status", "x", *WHERE]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_without_an_address_it_is_about_folders_as_ever(client, capsys, tmp_path):
    assert main(["status", "--out", str(tmp_path)]) == 0
    assert "No matrix in" in capsys.readouterr().out
