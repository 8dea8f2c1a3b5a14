"""Cells that stand still: one that sleeps for ever, one whose process is stopped."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.faults.harness import Matrix, same_results

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

HANGS = "tests.faults.models:HangsAtStep"
SHARED = {"epochs": 6, "epoch_seconds": 0.5}
WITHIN = 15.0  # seconds from the end of the hanging attempt until the cell has a slot again


@pytest.mark.fault("hang")
def test_what_stands_still_is_ended_and_tried_again(tmp_path, close, undisturbed, fault_table):
    hangs = {"lr": 3e-3, "model": {"class": HANGS, "step": 10, "pause": 0.125}}
    matrix = Matrix(tmp_path, arms={"low": {"lr": 1e-3}, "high": hangs}, **SHARED)
    process = close(matrix.start())
    stopped = process.wait_for_event("cell_epoch", epoch=3, name="low seed 0")
    [started] = [line for line in matrix.log(stopped["cell"]) if line.startswith("INFO started")]
    os.kill(int(re.findall(r"pid (\d+)", started)[0]), signal.SIGSTOP)
    assert process.wait(400) == 0, process.output
    retried = {event["name"]: event for event in matrix.events("cell_retried")}
    assert {name: event["fault"] for name, event in retried.items()} == {"low seed 0": "hang", "high seed 0": "hang"}
    figures = {}
    for name, event in retried.items():
        last = max(epoch["t"] for epoch in matrix.events("cell_epoch", name=name) if epoch["t"] < event["t"])
        again = min(start["t"] for start in matrix.events("cell_started", name=name) if start["t"] >= event["t"])
        assert again - event["t"] <= WITHIN
        how = "sleeping" if name.startswith("high") else "stopped"
        figures |= {f"seconds_to_detect_{how}": event["t"] - last, f"seconds_to_resume_{how}": again - event["t"]}
        assert matrix.attempts(event["cell"])[-1].resumed_after >= 2
    calm = undisturbed(Matrix(tmp_path / "calm", **SHARED))
    same_results(matrix.records(), calm)
    assert "hangs: nothing has moved for" in process.output
    assert process.orphans(agents=True) == {}
    fault_table.row(
        "one cell sleeps for ever in a step, the process of another is stopped (SIGSTOP); epochs of 0.5 s",
        "both found after a minute (ten epochs, but no less), ended, resumed in new processes, bit-equal",
        **figures,
    )
