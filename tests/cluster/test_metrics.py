"""What is told to Prometheus as a run goes; Ray itself is in tests/experiments/test_monitoring_command.py."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import metrics
from cluster.metrics import GAUGES, STATUSES, TAG_LETTERS, Metrics, Sample, label
from cluster.work import Ended, Fault, Outcome, Work


def work(arm: str, seed: int = 0, epochs: int | None = 4) -> Work:
    return Work(f"{arm}-{seed}", f"{arm} seed {seed}", {}, tags={"seed": str(seed)}, epochs=epochs, arm=arm)


LOW, HIGH = work("low"), work("high")
EPOCH = {
    "epoch": 2,
    "val_mae": 1.5,
    "val_mape": 9.0,
    "samples_per_second": 64.0,
    "epoch_seconds": 2.0,
    "gpu_memory_bytes": 7,
}


class Told:
    """Takes samples in place of Ray; keeps the last that were told."""

    def __init__(self) -> None:
        self.samples: Sequence[Sample] = []
        self.times = 0

    def __call__(self, samples: Sequence[Sample]) -> None:
        self.samples, self.times = samples, self.times + 1


def listener(*works: Work, told: Callable[[Sequence[Sample]], None] | None = None) -> Metrics:
    listens = Metrics("rates-1a2b3c", "val_mae", told or Told())
    listens.matrix_started(works, 2)
    return listens


def values(listens: Metrics, gauge: str, *by: str) -> dict[str, float]:
    """The gauge's values by its tags of these names."""
    return {" ".join(each.tags[tag] for tag in by): each.value for each in listens.samples() if each.gauge == gauge}


def outcome(*left: Work) -> Outcome:
    return Outcome({}, left, None, 2, 1.0)


def test_every_status_is_told_also_those_that_no_cell_has() -> None:
    listens = listener(LOW, HIGH)
    expected = dict.fromkeys(STATUSES, 0.0)
    assert values(listens, "altformer_cells", "status") == {**expected, "queued": 2.0}
    listens.cell_started(LOW)
    listens.cell_started(HIGH)
    listens.cell_paused(HIGH)
    assert values(listens, "altformer_cells", "status") == {**expected, "running": 1.0, "paused": 1.0}
    assert values(listens, "altformer_slots", "matrix") == {"rates-1a2b3c": 2.0}
    listens.slots_changed(0)
    assert values(listens, "altformer_slots", "matrix") == {"rates-1a2b3c": 0.0}
    listens.cell_retried(LOW, Fault("died", "gone"), 1)
    assert values(listens, "altformer_cells", "status") == {**expected, "queued": 1.0, "paused": 1.0}


@pytest.mark.parametrize("status", ["done", "stopped", "diverged", "failed", "interrupted"])
def test_of_a_cell_that_has_ended_the_speeds_are_gone_and_what_it_found_stays_only_if_it_is_a_result(
    status: str,
) -> None:
    listens = listener(LOW, HIGH)
    for each in (LOW, HIGH):
        listens.cell_started(each)
        listens.cell_epoch(each, EPOCH)
    listens.cell_ended(LOW, Ended(status))
    for gauge in ("samples_per_second", "epoch_seconds", "gpu_memory_bytes", "epoch"):
        assert set(values(listens, f"altformer_{gauge}", "arm", "seed")) == {"high 0"}, gauge
    kept = {"low 0"} if status in ("done", "stopped") else set()
    assert set(values(listens, "altformer_objective", "arm", "seed")) == {"high 0", *kept}
    assert values(listens, "altformer_cells", "status")[status] == 1.0


def test_an_epoch_is_told_by_arm_and_seed_with_what_was_reported() -> None:
    listens = listener(LOW)
    listens.cell_started(LOW)
    assert values(listens, "altformer_objective", "arm") == {}, "nothing yet, and no zero in its place"
    listens.cell_epoch(LOW, EPOCH)
    told = {each.gauge: (dict(each.tags), each.value) for each in listens.samples() if "arm" in each.tags}
    tags = {"matrix": "rates-1a2b3c", "arm": "low", "seed": "0"}
    assert told == {
        "altformer_objective": ({**tags, "metric": "val_mae"}, 1.5),
        "altformer_epoch": (tags, 2.0),
        "altformer_epochs_planned": (tags, 4.0),
        "altformer_samples_per_second": (tags, 64.0),
        "altformer_epoch_seconds": (tags, 2.0),
        "altformer_gpu_memory_bytes": (tags, 7.0),
    }


def test_a_paused_cell_keeps_its_epoch_and_what_it_found_but_no_speed() -> None:
    listens = listener(LOW)
    listens.cell_started(LOW)
    listens.cell_epoch(LOW, EPOCH)
    listens.cell_paused(LOW)
    told = {each.gauge for each in listens.samples() if "arm" in each.tags}
    assert told == {"altformer_objective", "altformer_epoch", "altformer_epochs_planned"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "a word", None])
def test_what_is_no_finite_number_is_not_told(value: object) -> None:
    listens = listener(LOW)
    listens.cell_started(LOW)
    listens.cell_epoch(LOW, {**EPOCH, "val_mae": value})
    assert values(listens, "altformer_objective", "arm") == {}
    assert values(listens, "altformer_epoch_seconds", "arm") == {"low": 2.0}


def test_lost_attempts_are_counted_by_what_ended_them() -> None:
    listens = listener(LOW)
    for kind in ("died", "node", "died"):
        listens.cell_started(LOW)
        listens.cell_retried(LOW, Fault(kind, "gone"), 1)
    none = {"error": 0.0, "memory": 0.0, "disk": 0.0, "hang": 0.0}
    assert values(listens, "altformer_retries", "fault") == {**none, "died": 2.0, "node": 1.0}


def test_series_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "KEPT_CELLS", 3)
    works = [work("low", seed) for seed in range(10)]
    listens = listener(*works)
    for each in works:
        listens.cell_started(each)
        listens.cell_epoch(each, EPOCH)
        listens.cell_ended(each, Ended("done"))
    assert values(listens, "altformer_objective", "seed") == {"7": 1.5, "8": 1.5, "9": 1.5}
    assert values(listens, "altformer_cells", "status")["done"] == 10.0


def test_tags_of_every_sample_are_those_that_its_gauge_declares() -> None:
    listens = listener(LOW)
    listens.cell_started(LOW)
    listens.cell_epoch(LOW, EPOCH)
    found: dict[str, set[frozenset[str]]] = defaultdict(set)
    for each in listens.samples():
        found[each.gauge].add(frozenset(each.tags))
    assert found == {name: {frozenset({"matrix", *tags})} for name, (_, tags) in GAUGES.items()}


def test_values_are_told_again_and_again_and_a_last_time_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BEAT_SECONDS", 0.05)
    told = Told()
    listens = listener(LOW, told=told)
    deadline = time.monotonic() + 5
    while told.times < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told.times >= 3, "Ray forgets what is not told again"
    listens.cell_started(LOW)
    listens.cell_ended(LOW, Ended("done"))
    listens.matrix_ended(outcome())
    last = {each.tags["status"]: each.value for each in told.samples if each.gauge == "altformer_cells"}
    assert (last["done"], last["running"]) == (1.0, 0.0)
    times = told.times
    time.sleep(0.2)
    assert told.times == times, "nothing is told after the end"


def test_what_cannot_be_told_is_logged_once_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics, "BEAT_SECONDS", 0.02)
    times = 0

    def fails(samples: Sequence[Sample]) -> None:
        nonlocal times
        times += 1
        raise RuntimeError("no Ray here")

    with caplog.at_level(logging.ERROR, logger="cluster.metrics"):
        listens = listener(LOW, told=fails)
        time.sleep(0.2)
        listens.cell_started(LOW)
        listens.cell_ended(LOW, Ended("done"))
        listens.matrix_ended(outcome())
    assert times >= 3, "it goes on trying"
    assert [record.message for record in caplog.records] == ["the metrics of the run cannot be told; the run goes on"]


def test_the_end_does_not_wait_for_a_beat() -> None:
    listens = listener(LOW)
    began = time.monotonic()
    listens.matrix_ended(outcome(LOW))
    assert time.monotonic() - began < 1.0


@given(st.text(max_size=200))
def test_any_name_becomes_a_tag_that_ray_takes(name: str) -> None:
    tag = label(name)
    assert tag.isascii()
    assert len(tag) <= TAG_LETTERS
    assert tag.isprintable()


@pytest.mark.parametrize(
    ("one", "other"),
    [("é", "è"), ("a" * 200, "a" * 201), ("a\nb", "a\tb"), ("é", "?"), ("\ud800", "\udfff")],
)
def test_two_names_stay_two(one: str, other: str) -> None:
    assert label(one) != label(other)


@pytest.mark.parametrize("name", ["1-1-1-1", "lr=0.001,dropout=0.1", 'mine, "quoted" {and} \\braced', ""])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert label(name) == name
