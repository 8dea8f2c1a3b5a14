"""Matrices as jobs on a real head: followed, stopped, gone on with, left alone, refused."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from tests.ablations.submissions import JobsHead, Project, job_of, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def head() -> Iterator[JobsHead]:
    """Of a cluster whose trials run on another node."""
    with JobsHead() as cluster:
        cluster.add(cpus=2)
        yield cluster


def test_a_matrix_runs_there_from_the_sources_that_were_sent_and_ends_here_with_its_exit_code(head, tmp_path, close):
    project = Project(tmp_path, head, epochs=2)
    begun = close(project.submit("--max-cells", "1"))
    assert begun.wait() == 3, begun.output
    assert re.search(r"FAILED with exit code 3$", begun.output, re.MULTILINE)
    assert [record["status"] for record in project.records()] == ["done"]

    ended = close(project.submit())
    assert ended.wait() == 0, ended.output
    assert "done   low seed 0" in ended.output and ended.output.strip().endswith(": SUCCEEDED")
    assert [record["status"] for record in project.records()] == ["done", "done"]
    assert "planted-secret" not in begun.output + ended.output
    for record in project.records():
        assert (record["provenance"]["git_commit"], record["provenance"]["git_dirty"]) == (project.commit, True)
    [report] = project.out.glob("small-*/report.md")
    assert f"| git commit | {project.commit} with uncommitted changes |" in report.read_text()

    assert len({noted["cwd"] for noted in project.noted()}) == 2, "drivers on the head, what trains on the node"
    for noted in project.noted():
        sources = noted["sources"]
        assert all(source.startswith(f"{noted['cwd']}/") and "_ray_pkg_" in source for source in sources), sources
        assert {"pyproject.toml", "own.py", "matrices/small.yaml", "altformer/data/specs.py"} <= set(noted["lies"])
        assert not {"data", "runs", ".env", ".git", "server.key"} & set(noted["lies"])

    mistaken = close(project.submit("--workers", "3"))
    assert mistaken.wait() == 2, mistaken.output
    listed = close(project.run("status"))
    assert listed.wait(60) == 0
    assert re.findall(r"(SUCCEEDED|FAILED) .* ([\d-])\s*$", listed.output, re.MULTILINE) == [
        ("FAILED", "3"),
        ("SUCCEEDED", "0"),
        ("FAILED", "2"),
    ]


def test_a_job_is_left_alone_attached_to_stopped_and_gone_on_with(head, tmp_path, close):
    project = Project(tmp_path, head, epochs=14, epoch_seconds=2.0)
    process = close(project.submit())
    wait_until("both cells train", lambda: len(project.events("cell_epoch")) >= 2)
    process.kill(number=signal.SIGINT)
    assert process.wait(20) == 130, process.output
    job = job_of(process.output)
    assert f"altformer logs {job} --address {head.jobs} --follow" in process.output
    assert "Traceback" not in process.output

    before = len(project.events("cell_epoch"))
    wait_until("it goes on", lambda: len(project.events("cell_epoch")) >= before + 2)
    shown = close(project.run("status", job))
    assert shown.wait(60) == 0 and f"{job}: RUNNING" in shown.output

    attached = close(project.run("logs", job, "--follow"))
    attached.wait_for(r"start  low seed 0")
    stopped = close(project.run("stop", job))
    assert stopped.wait(100) == 0, stopped.output
    assert stopped.output.endswith(f"{job}: STOPPED\n")
    assert attached.wait(60) == 130, attached.output
    assert "Interrupted (SIGINT): finished cells and checkpoints are kept" in attached.output
    assert attached.output.strip().endswith(f"{job}: STOPPED")
    assert {event["status"] for event in project.events("cell_ended")} == {"interrupted"}
    assert len(project.events("matrix_ended")) == 1, "what was left to be written is written"
    reached = max(event["epoch"] for event in project.events("cell_epoch"))

    project.hurry()
    again = close(project.submit())
    assert again.wait() == 0, again.output
    logs = [path.read_text() for path in project.out.glob("cells/*/log.txt")]
    resumed = [int(found[1]) for log in logs for found in re.finditer(r"resumes after epoch (\d+)", log)]
    assert len(resumed) == 2 and max(resumed) == reached, (resumed, reached)
    assert [(record["status"], record["epochs"]) for record in project.records()] == [("done", 14)] * 2


def test_another_token_is_refused_and_nothing_is_sent(head, tmp_path, close):
    project = Project(tmp_path, head, epochs=1)
    wrong = tmp_path / "token"
    wrong.touch(0o600)
    wrong.write_text("f" * 64)
    commands = {
        "submit": ["matrices/small.yaml", "--out", str(project.out)],
        "status": [],
        "logs": ["small"],
        "stop": ["small"],
    }
    for command, arguments in commands.items():
        process = close(project.run(command, *arguments, env={"RAY_AUTH_TOKEN_PATH": str(wrong)}))
        without = close(project.run(command, *arguments, env={"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}))
        assert process.wait(60) == 2, process.output
        [said] = process.output.splitlines()
        assert said.startswith(f"altformer: {head.jobs} refuses the access token that is known here"), said
        assert without.wait(60) == 2, without.output
        assert "wants an access token, and none is known here" in without.output
        assert "Traceback" not in without.output
    assert not project.out.exists()
