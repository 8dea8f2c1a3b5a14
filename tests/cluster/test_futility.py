"""The rule that stops arms of a comparison: what it may do, shown by simulation, and that order plays no part in it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cluster.futility import Contest, History, Race, is_futile
from cluster.scheduler import FutilityScheduler, RungByRung

RUNGS, EPOCHS = (2, 4), 8


def contest(arms=("a", "b"), seeds=3, baseline="base", **changes):
    def cells(arm):
        return {seed: f"{arm}{seed}" for seed in range(seeds)}

    rule = {"rungs": RUNGS, "margin": 0.02, "alpha": 0.05} | changes
    return Contest(cells(baseline), {arm: cells(arm) for arm in arms}, **rule)


def falling(level, epochs=EPOCHS):
    return [level + 1 / epoch for epoch in range(1, epochs + 1)]


LEVELS = {"base0": 3.0, "base1": 3.1, "base2": 2.9, "a0": 3.01, "a1": 3.08, "a2": 2.91, "b0": 4.0, "b1": 4.2, "b2": 3.9}
CURVES = {key: falling(level) for key, level in LEVELS.items()}


class Cluster:
    """Runs cells in random order, as many at once as there are slots, asking the race as the queue and Tune do."""

    def __init__(self, race, curves, slots, rng, began=()):
        self.race, self.curves, self.slots, self.rng = race, curves, slots, rng
        self.epoch = dict.fromkeys(curves, 0) | dict(began)
        self.waiting = list(rng.permutation(sorted(curves)))
        self.running, self.ended = [], {}

    def run(self, until=math.inf):
        steps = 0
        while steps < until:
            steps += 1
            for key in [key for key in self.waiting if self.race.decision(key) != "pause"]:
                if len(self.running) < self.slots:
                    self.waiting.remove(key)
                    if self.race.decision(key) == "stop":
                        self.end(key, "stopped")
                    else:
                        self.running.append(key)
            if not self.running:
                break
            self.step(self.running.pop(self.rng.integers(len(self.running))))
        return self.ended

    def step(self, key):
        self.epoch[key] += 1
        decision = self.race.reported(key, self.epoch[key], self.curves[key][self.epoch[key] - 1])
        if self.epoch[key] == len(self.curves[key]):
            self.end(key, "done")
        elif decision == "go":
            self.running.append(key)
        elif decision == "stop":
            self.end(key, "stopped")
        else:
            self.waiting.append(key)

    def end(self, key, status):
        self.race.ended(key, status)
        self.ended[key] = (status, self.epoch[key])


ONE = (contest(),)


def outcome(curves=CURVES, contests=ONE, slots=2, seed=0, **race):
    cluster = Cluster(Race(contests, {}, **race), curves, slots, np.random.default_rng(seed))
    ended = cluster.run()
    assert not cluster.waiting and not cluster.running, "a cell waits for ever"
    return ended


def test_an_arm_that_is_clearly_worse_is_stopped_as_a_whole_at_the_first_rung():
    ended = outcome()
    assert {key: end for key, end in ended.items() if key[0] == "b" and key[1] != "a"} == {
        "b0": ("stopped", 2),
        "b1": ("stopped", 2),
        "b2": ("stopped", 2),
    }
    assert all(ended[key] == ("done", EPOCHS) for key in ended if not key.startswith("b") or key.startswith("base"))


@pytest.mark.parametrize(
    ("differences", "margin", "futile"),
    [
        ([1.0, 1.1, 0.9], 0.02, True),
        ([1.0, 1.1, 0.9], 0.95, False),
        ([-1.0, -1.1, -0.9], 0.02, False),
        ([0.0, 2.0, 1.0], 0.02, False),
        ([1.0, 1.0, 1.0], 0.02, True),  # without spread
        ([0.0, 0.0, 0.0], 0.0, False),
        ([5.0, 5.1], 0.02, False),  # two seeds show nothing
        ([], 0.02, False),
    ],
)
def test_futile(differences, margin, futile):
    assert is_futile(differences, margin, 0.025) is futile


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=8), st.floats(0, 1), st.floats(0.01, 0.2))
def test_futile_is_scipys_one_sided_test(differences, margin, alpha):
    if np.std(differences) < 1e-9:
        return
    p = stats.ttest_1samp(differences, margin, alternative="greater").pvalue
    if abs(p - alpha) > 1e-9:
        assert is_futile(differences, margin, alpha) == (p < alpha)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6), slots=st.integers(1, 9), levels=st.lists(st.floats(2.5, 3.5), min_size=9, max_size=9)
)
def test_what_is_stopped_depends_neither_on_order_nor_on_slots(seed, slots, levels):
    curves = dict(zip(CURVES, map(falling, levels), strict=True))
    assert outcome(curves, slots=slots, seed=seed) == outcome(curves, slots=2, seed=0)


@given(seed=st.integers(0, 10**6), others=st.lists(st.floats(2.5, 3.5), min_size=3, max_size=3))
@settings(max_examples=30)
def test_what_is_stopped_does_not_depend_on_the_other_arms(seed, others):
    mixed = CURVES | {f"b{number}": falling(level) for number, level in enumerate(others)}
    alone = {key: curve for key, curve in mixed.items() if key[:4] == "base" or key[0] == "a"}
    both, one = outcome(mixed, seed=seed), outcome(alone, (contest(arms=("a",)),), seed=seed)
    assert {key: both[key] for key in one} == one


@pytest.mark.parametrize("steps", range(1, 60, 3))
def test_a_run_that_is_interrupted_anywhere_ends_as_one_that_is_not(steps):
    rng = np.random.default_rng(steps)
    first = Cluster(Race((contest(),), {}), CURVES, 2, rng)
    first.run(until=steps)
    status = {key: end[0] for key, end in first.ended.items()}
    history = {key: History(CURVES[key][:at], status.get(key)) for key, at in first.epoch.items() if at}
    left = {key: curve for key, curve in CURVES.items() if key not in first.ended}
    began = {key: first.epoch[key] for key in left}
    second = Cluster(Race((contest(),), history), left, 2, rng, began)
    assert first.ended | second.run() == outcome()


class Losing(Cluster):
    """Attempts often end between the checkpoint of an epoch and its report."""

    def step(self, key):
        if self.epoch[key] + 1 < len(self.curves[key]) and self.rng.random() < 0.4:
            self.epoch[key] += 1
            self.race.resumes(key, self.curves[key][: self.epoch[key]])
            self.waiting.insert(0, key)
        else:
            super().step(key)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_stopped_does_not_depend_on_reports_that_are_lost_with_their_attempt(seed):
    cluster = Losing(Race(ONE, {}), CURVES, 2, np.random.default_rng(seed))
    assert cluster.run() == outcome()
    assert not cluster.waiting, "a cell waits for ever"


@pytest.mark.parametrize(
    ("known", "saved", "epochs"),
    [
        ([], [3.0], 1),
        ([3.0], [3.0, 2.5], 2),
        ([3.0, 2.5], [3.0, 2.5], 2),
        ([3.0, 2.5], [3.0], 2),  # its last checkpoint is damaged: it will say the epoch again
        ([3.0], [], 1),
    ],
)
def test_a_cell_that_is_tried_again_has_the_epochs_that_it_saved(known, saved, epochs):
    race = Race(ONE, {"b0": History(known)})
    race.resumes("b0", saved)
    assert race.epochs("b0") == epochs


@pytest.mark.parametrize("last", [2, 3, 4])
def test_an_arm_that_was_stopped_is_stopped_wherever_its_cells_had_got_to_by_then(last):
    """Another process may have trained a cell beyond the rung before the arm was judged there."""
    history = {key: History(CURVES[key], "done") for key in ("base0", "base1", "base2")}
    history |= {"b0": History(CURVES["b0"][:last], "stopped")}
    history |= {key: History(CURVES[key][:last]) for key in ("b1", "b2")}
    assert [Race(ONE, history).decision(key) for key in ("b1", "b2")] == ["stop", "stop"]


def test_seeds_that_are_added_to_an_arm_that_was_let_through_do_not_stop_it_afterwards():
    done = {key: History(curve, "done") for key, curve in CURVES.items()}
    race = Race((contest(seeds=5),), done)
    bad = {f"b{seed}": falling(9.0) for seed in (3, 4)}
    new = bad | {f"{arm}{seed}": falling(3.0) for arm in ("base", "a") for seed in (3, 4)}
    assert set(Cluster(race, new, 3, np.random.default_rng(0)).run().values()) == {("done", EPOCHS)}


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_cell_that_came_to_grief_is_neither_waited_for_nor_counted(status):
    race = Race((contest(arms=("b",)),), {})
    for key in ("base0", "base1", "base2", "b0", "b1"):
        for epoch in (1, 2):
            decision = race.reported(key, epoch, CURVES[key][epoch - 1])
    assert decision == "pause"
    race.ended("b2", status)
    assert race.decision("b1") == "go"  # two pairs show nothing


@pytest.mark.parametrize("status", ["failed", "diverged", "done", None])
def test_what_becomes_of_the_baseline_beyond_a_rung_plays_no_part_there(status):
    """It does not wait, so it has come to grief or not, depending on when the arm arrives."""
    race = Race((contest(arms=("b",)),), {})
    for key in ("base0", "base1", "base2"):
        for epoch in (1, 2, 3):
            race.reported(key, epoch, CURVES[key][epoch - 1])
    if status is not None:
        race.ended("base2", status)
    for key in ("b0", "b1", "b2"):
        for epoch in (1, 2):
            race.reported(key, epoch, CURVES[key][epoch - 1])
    assert {race.decision(key) for key in ("b0", "b1", "b2")} == {"stop"}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(1, 9),
    ends=st.dictionaries(st.sampled_from([*CURVES]), st.integers(1, 7)),
)
def test_cells_that_end_early_do_not_make_order_count(seed, slots, ends):
    """Cells that fail or run out of patience after some epoch."""
    status = {key: "failed" if at % 2 else "done" for key, at in ends.items()}

    class Falling(Cluster):
        def end(self, key, how):
            super().end(key, status.get(key, how) if self.epoch[key] == ends.get(key) and how == "done" else how)

    def ended(slots, seed):
        curves = {key: curve[: ends.get(key, EPOCHS)] for key, curve in CURVES.items()}
        cluster = Falling(Race(ONE, {}), curves, slots, np.random.default_rng(seed))
        cluster.run()
        assert not cluster.waiting and not cluster.running, "a cell waits for ever"
        return cluster.ended

    assert ended(slots, seed) == ended(2, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_value_that_is_no_number_counts_for_nothing(value):
    race = Race((contest(arms=("b",)),), {})
    for key, curve in CURVES.items():
        for epoch in (1, 2):
            race.reported(key, epoch, value if key == "b2" else curve[epoch - 1])
    assert race.decision("b0") == "go"


def test_a_cell_that_ended_by_itself_before_the_rung_counts_with_its_best():
    race = Race((contest(arms=("b",)),), {})
    for key in ("base0", "base1", "base2", "b1", "b2"):
        for epoch in (1, 2):
            race.reported(key, epoch, CURVES[key][epoch - 1])
    race.reported("b0", 1, 4.0)
    assert race.decision("b1") == "pause"
    race.ended("b0", "done")
    assert race.decision("b1") == "stop"


def test_a_cell_of_two_contests_goes_on_while_one_of_them_lets_it():
    # "a" is the baseline of a second contest in which "b" is measured against something worse than itself
    worse = Contest({seed: f"c{seed}" for seed in range(3)}, {"b": contest().arms["b"]}, RUNGS, 0.02, 0.05)
    curves = CURVES | {f"c{seed}": falling(5.0 + seed / 10) for seed in range(3)}
    ended = outcome(curves, (contest(), worse))
    assert {ended[f"b{seed}"] for seed in range(3)} == {("done", EPOCHS)}
    assert {ended[f"c{seed}"] for seed in range(3)} == {("done", EPOCHS)}


def test_cells_that_another_matrix_trains_to_the_end_are_never_stopped():
    ended = outcome(never=frozenset({"b0", "b1", "b2"}))
    assert set(ended.values()) == {("done", EPOCHS)}


def test_the_rule_minimises_errors_and_says_so():
    with pytest.raises(ValueError, match="lower is better"):
        FutilityScheduler((contest(),)).build("r2", "max", lambda key, why: None)


class Driver:
    """Tells a scheduler what Tune would; ``saved`` is what the cells' checkpoints hold."""

    def __init__(self):
        self.asked, self.saved, self.read = [], {}, []
        self.rule = FutilityScheduler((contest(arms=("b",)),), saved=self._saved)
        self.tune = self.rule.build("val_mae", "min", lambda key, why: self.asked.append((key, why)))

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
    tune = rule.build("val_mae", "min", lambda key, why: asked.append((key, why)))
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
