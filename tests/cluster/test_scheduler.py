import pickle
from types import SimpleNamespace

import pydantic
import pytest
from ray.tune.schedulers import FIFOScheduler

from cluster.scheduler import AshaScheduler, FutilityScheduler, NoScheduler


def test_defaults():
    assert AshaScheduler(max_epochs=8) == AshaScheduler(max_epochs=8, grace_period=1, reduction_factor=4)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (AshaScheduler, {}),
        (AshaScheduler, {"max_epochs": 8, "type": "hyperband"}),
        (AshaScheduler, {"max_epochs": 2, "grace_period": 3}),
        (AshaScheduler, {"max_epochs": 8, "reduction_factor": 1}),
        (AshaScheduler, {"max_epochs": 8, "brackets": 2}),
        (NoScheduler, {"grace_period": 1}),
    ],
)
def test_what_makes_no_scheduler_is_refused(kind, fields):
    with pytest.raises(pydantic.ValidationError):
        kind(**fields)


class Driver:
    """Feeds results to a scheduler as Tune would."""

    def __init__(self, config, epochs):
        self.asked = []
        self.scheduler = config.build("val_mae", lambda key, why: self.asked.append(key))
        self.epochs = epochs
        self.trials = {}

    def report(self, key, epoch, value):
        if key not in self.trials:
            self.trials[key] = SimpleNamespace(trial_id=key, config={"cell": {"key": key, "epochs": self.epochs}})
            self.scheduler.on_trial_add(None, self.trials[key])
        result = {"report/epoch": epoch, "report/val_mae": value, "training_iteration": epoch}
        return self.scheduler.on_trial_result(None, self.trials[key], result)


def test_asha_asks_the_worse_half_to_leave_and_tune_never_hears_of_it():
    driver = Driver(AshaScheduler(max_epochs=8, reduction_factor=2), epochs=8)
    decisions = [driver.report(key, 1, value) for key, value in [("a", 3.0), ("b", 4.0), ("c", 2.0), ("d", 3.5)]]
    assert driver.asked == ["b", "d"]
    assert decisions == ["CONTINUE"] * 4


def test_asha_compares_only_at_its_rungs_and_after_the_grace_period():
    driver = Driver(AshaScheduler(max_epochs=16, grace_period=2, reduction_factor=2), epochs=16)
    for epoch in (1, 2, 3, 4, 5):
        driver.report("good", epoch, 1.0)
    driver.report("bad", 1, 9.0)
    assert driver.asked == []
    driver.report("bad", 2, 9.0)
    assert driver.asked == ["bad"]


@pytest.mark.parametrize("epochs", [8, 4, None])
def test_asha_never_cuts_the_last_epoch(epochs):
    # Rungs at 1, 2, 4, 8: with 4 or 8 epochs the last one is a rung.
    driver = Driver(AshaScheduler(max_epochs=8, reduction_factor=2), epochs)
    last = epochs or 8
    for epoch in range(1, last):
        driver.report("a", epoch, 1.0)
        driver.report("b", epoch, 1.0)
    driver.report("a", last, 1.0)
    driver.report("b", last, 2.0)
    assert driver.asked == ([] if epochs else ["b"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_values_that_cannot_be_compared_neither_stop_nor_count(value):
    driver = Driver(AshaScheduler(max_epochs=8, reduction_factor=2), epochs=8)
    driver.report("strange", 1, value)
    driver.report("first", 1, 5.0)
    assert driver.asked == []
    driver.report("second", 1, 6.0)
    assert driver.asked == ["second"]


@pytest.mark.parametrize("config", [NoScheduler(), AshaScheduler(max_epochs=8), FutilityScheduler(())])
def test_trials_start_as_they_come_without_a_look_through_all_that_there_were(config):
    scheduler = config.build("val_mae", lambda key, why: None)
    assert scheduler.choose_trial_to_run(None) is None


def test_off_is_a_scheduler_that_never_asks():
    driver = Driver(NoScheduler(), epochs=8)
    for key, value in [("a", 1.0), ("b", 99.0)]:
        assert driver.report(key, 1, value) == "CONTINUE"
    assert driver.asked == []


@pytest.mark.parametrize("config", [NoScheduler(), AshaScheduler(max_epochs=8)])
def test_schedulers_survive_tunes_pickling(config):
    scheduler = config.build("val_mae", lambda key, why: None)
    assert isinstance(pickle.loads(pickle.dumps(scheduler)), FIFOScheduler)
