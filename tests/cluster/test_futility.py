"""The rule that stops arms of a comparison: what it may do, shown by simulation, and that order plays no part in it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cluster.futility import Contest, History, Race, is_futile
from tests.cluster.contests import CURVES, EPOCHS, RUNGS, Cluster, contest, falling

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
