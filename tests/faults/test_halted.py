"""Going on is pointless: every cell fails alike, or the head of the cluster is gone. The run says so, reports, ends."""

from __future__ import annotations

import time

import pytest

from tests.faults.harness import Matrix, same_results

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

RAISES = "tests.faults.models:RaisesAtStep"
HEAD_SECONDS = 70.0  # after which Ray would have ended the process without a word


@pytest.mark.fault("alike")
def test_an_error_that_every_cell_shares_ends_the_run(tmp_path, close, fault_table):
    arms = {f"arm{place}": {"lr": 1e-3 * place} for place in range(1, 9)}
    matrix = Matrix(tmp_path, arms=arms, epochs=3)
    matrix.experiment["model"] = {"class": RAISES, "step": 2, "message": "no such column: speed"}
    matrix.write()
    process = close(matrix.start())
    assert process.wait() == 1, process.output
    ended = matrix.events("cell_ended", status="failed")
    assert 3 <= len(ended) <= 4, "three, and what ran beside the third"
    lines = process.output.splitlines()
    [why] = [line for line in lines if line.startswith("Ended early: ")]
    assert "failed alike" in why and "no such column: speed" in why
    assert any(line.startswith("Report: ") for line in lines) and (matrix.report_folder / "report.md").is_file()
    assert "Traceback" not in process.output
    assert process.orphans(agents=True) == {}
    fault_table.row(
        "a model class that raises in its second step, in 8 arms",
        "ends after three failures with one message; the report has them",
        failed=len(ended),
        not_tried=len(arms) - len(ended),
    )


@pytest.mark.fault("head")
def test_a_head_that_is_gone_ends_the_driver_and_the_same_command_goes_on(tmp_path, close, undisturbed, fault_table):
    matrix = Matrix(tmp_path, seeds=2, epochs=8, epoch_seconds=0.5)
    process = close(matrix.start(mlflow=True))
    process.wait_for_event("cell_epoch", epoch=3)
    [head] = process.pids_of("gcs_server")
    killed = time.monotonic()
    process.kill(head)
    assert process.wait(HEAD_SECONDS + 20) == 1, process.output
    seconds = time.monotonic() - killed
    assert seconds < HEAD_SECONDS
    why = next((line for line in process.output.splitlines() if line.startswith("Ended early: ")), process.output)
    assert "head does not answer" in why and "the same command goes on" in process.output
    assert "Traceback" not in process.output and (matrix.report_folder / "report.md").is_file()
    assert "RUNNING" not in matrix.mlflow_runs().values()
    left = process.orphans(timeout=60.0)
    assert left == {}, left
    done = {at: record["provenance"]["ended"] for at, record in matrix.records().items()}

    matrix.hurry()
    again = close(matrix.start(mlflow=True))
    assert again.wait() == 0, again.output
    same_results(matrix.records(), undisturbed(matrix))
    assert {at: matrix.records()[at]["provenance"]["ended"] for at in done} == done, "what was done is not run again"
    assert set(matrix.mlflow_runs().values()) == {"FINISHED"}
    fault_table.row(
        "kill -9 of gcs_server, two cells training",
        "message, report and exit code 1 within 70 s; then on a new cluster bit-equal to an undisturbed run",
        seconds_to_exit=seconds,
    )
