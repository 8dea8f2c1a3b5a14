"""The futility rule as a scheduler of Tune's, and what it does where reports are lost."""

from __future__ import annotations

from types import SimpleNamespace

from cluster.scheduler import FutilityScheduler, RungByRung
from tests.cluster.contests import CURVES, EPOCHS, contest


class Driver:
    """Tells a scheduler what Tune would; ``saved`` is what the cells' checkpoints hold."""

    def __init__(self):
        self.asked, self.saved, self.read = [], {}, []
        self.rule = FutilityScheduler((contest(arms=("b",)),), saved=self._saved)
        self.tune = self.rule.build("val_mae", lambda key, why: self.asked.append((key, why)))

    def _saved(self, key):
        self.read.append(key)
        return self.saved[key]

    def report(self, key, *epochs):
        for epoch in epochs:
            self.saved[key] = CURVES[key][:epoch]
            result = {"report/epoch": epoch, "report/val_mae": CURVES[key][epoch - 1]}
            assert self.tune.on_trial_result(None, self._trial(key), result) == "CONTINUE"

    def lose(self, key, epoch):
        """The cell's process dies after the checkpoint of this epoch, before its report."""
        self.saved[key] = CURVES[key][:epoch]
        self.tune.on_trial_error(None, self._trial(key))

    def _trial(self, key):
        return SimpleNamespace(config={"cell": {"key": key, "epochs": EPOCHS}})


def test_a_cell_whose_report_of_a_rung_is_lost_waits_there_when_it_is_tried_again():
    driver = Driver()
    for key in ("base0", "base1", "base2", "b1", "b2"):
        driver.report(key, 1, 2)
    driver.report("b0", 1)
    assert driver.read == [], "nothing is lost, so no checkpoint is read"
    assert [driver.rule.decision(key) for key in ("b0", "b1")] == ["go", "pause"]
    driver.lose("b0", 2)
    assert [driver.rule.decision(key) for key in ("b0", "b1", "b2")] == ["stop", "stop", "stop"]


def test_a_cell_that_comes_back_beyond_a_rung_is_judged_there_by_what_it_has_saved(monkeypatch):
    """As where another process has gone on with it meanwhile."""
    monkeypatch.setitem(CURVES, "b0", [9.0, 3.0, *[9.0] * 6])  # no worse than the baseline, by what was not reported
    driver = Driver()
    for key in ("base0", "base1", "base2", "b1", "b2"):
        driver.report(key, 1, 2)
    driver.report("b0", 1, 3)
    assert driver.read == ["b0"]
    assert driver.asked == [("b1", "paused"), ("b2", "paused")]
    assert {driver.rule.decision(key) for key in ("b0", "b1", "b2")} == {"go"}


def test_tune_is_told_to_continue_and_the_cell_to_pause_or_to_stop():
    asked = []
    rule = FutilityScheduler((contest(arms=("b",)),))
    tune = rule.build("val_mae", lambda key, why: asked.append((key, why)))
    assert isinstance(tune, RungByRung)

    def report(key, epoch):
        trial = SimpleNamespace(config={"cell": {"key": key, "epochs": EPOCHS}})
        result = {"report/epoch": epoch, "report/val_mae": CURVES[key][epoch - 1]}
        assert tune.on_trial_result(None, trial, result) == "CONTINUE"

    for key in ("b0", "base0", "base1", "base2", "b1", "b2"):
        for epoch in (1, 2):
            report(key, epoch)
    assert asked == [("b0", "paused"), ("b1", "paused"), ("b2", "scheduler")]
    assert [rule.decision(key) for key in ("b0", "b1", "base0")] == ["stop", "stop", "go"]
