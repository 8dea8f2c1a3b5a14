"""A probe measures what training then takes, keeps nothing, and says why where it cannot."""

import random
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.cell import Machine, make_cell
from experiments.pace import Pace
from experiments.probe import gathered, pace_of, probe, probe_here


@pytest.fixture
def cell(tiny, traffic, tmp_path):
    return make_cell(tiny, Machine(), traffic.identity, tmp_path / "runs")


def watch(ticks, epoch_seconds=None, samples_per_second=None, reported=0.0):
    metrics = (
        {} if epoch_seconds is None else {"epoch_seconds": epoch_seconds, "samples_per_second": samples_per_second}
    )
    return SimpleNamespace(began=100.0, ticks=ticks, metrics=metrics, reported=reported)


def test_steps_after_the_first_and_the_validation_make_the_pace():
    # 3 s to begin with, of which one is a step; steps of 1 s on 8 windows; 2 s of validation; 0.5 s of checkpoint
    seen = watch([103.0, 104.0, 105.0, 106.0], epoch_seconds=6.0, samples_per_second=8.0, reported=108.5)
    assert pace_of(seen, 8, 40, 1) == Pace(once=2.0, trained=1 / 8, scored=0.05, epoch=0.5)


def test_several_workers_share_windows():
    # one of two workers: 4 of the 8 windows of a step, a half of the validation's
    seen = watch([103.0, 104.0, 105.0, 106.0], epoch_seconds=6.0, samples_per_second=4.0, reported=108.0)
    assert pace_of(seen, 8, 40, 2) == Pace(once=2.0, trained=1 / 8, scored=0.025, epoch=0.0)


@pytest.mark.parametrize(("ticks", "once", "trained"), [([103.0, 104.0], 2.0, 1 / 8), ([104.0], 0.0, 0.5)])
def test_when_time_is_up_the_steps_that_are_done_must_do(ticks, once, trained):
    pace = pace_of(watch(ticks), 8, 40, 1)
    assert (pace.once, pace.trained) == (once, trained) and 0 < pace.scored < pace.trained


def test_a_probe_leaves_nothing_and_its_cell_is_as_before(cell, traffic, tmp_path):
    pace = probe(cell, traffic)
    assert pace.trained > 0 and pace.scored > 0 and pace.once >= 0
    assert not list(tmp_path.iterdir())


def test_probes_in_their_own_processes_draw_no_number_here(cell, traffic, tiny, tmp_path, capfd):
    broken = tiny.model_copy(update={"model": tiny.model.model_copy(update={"patch_len": 5})})
    cells = [cell, make_cell(broken, Machine(), traffic.identity, tmp_path / "runs")]
    states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
    found = probe_here(cells, traffic, processes=2, seconds=100)
    assert states == (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())
    assert isinstance(found[cell.hash], Pace) and found[cell.hash].trained > 0
    assert found[cells[1].hash].startswith("UserError: ") and "patch_len" in found[cells[1].hash]
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_without_time_nothing_is_found(cell, traffic, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert probe_here([cell], traffic, processes=1, seconds=0) == {}
    assert probe_here([cell], traffic, processes=1, seconds=0.1) == {}
    assert not list(tmp_path.iterdir()), "also where a process was ended"


def test_half_a_line_of_a_process_that_was_ended_is_dropped():
    whole = b'{"cell": "a", "pace": {"once": 1, "trained": 2, "scored": 3, "epoch": 0}, "error": null}'
    assert gathered(whole + b"\n" + whole[:40]) == {"a": Pace(1, 2, 3, 0)}
