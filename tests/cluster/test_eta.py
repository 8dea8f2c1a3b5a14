"""The time left, held against simulated matrices whose cells' seconds are known."""

import heapq

import numpy as np
import pytest

from cluster.eta import Row
from cluster.progress import Tally
from cluster.work import Ended, Work

EPOCHS, CELLS, START = 12, 24, 20.0

SIZES = {
    "equal": np.full(CELLS, 30.0),
    "small first": np.linspace(10, 80, CELLS),
    "large first": np.linspace(80, 10, CELLS),
    "arms in turn": np.tile([10.0, 80.0, 20.0, 40.0], CELLS // 4),
}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def simulate(sizes, slots, told, seed=0, pause_at=None):
    """Run cells of these sizes (seconds, each off by a tenth or so) and return (eta, truth) after a third have ended.

    ``told`` times its size is what the plan expected of a cell (None: nothing). The first cell of a slot waits for its
    processes. With ``pause_at`` every cell leaves its slot after that epoch and goes on at the end of the queue.
    """
    rng = np.random.default_rng(seed)
    clock = Clock()
    tally = Tally(clock=clock)
    works = [
        Work(str(place), str(place), {}, epochs=EPOCHS, expected_seconds=None if told is None else told * size)
        for place, size in enumerate(sizes)
    ]
    true = sizes * rng.normal(1, 0.1, len(sizes))
    tally.matrix_started(works, slots)
    queue = [(work, 0) for work in works]
    events = []  # (time, number, slot's state)
    counter = iter(range(10**6))
    spent = dict.fromkeys(map(str, range(len(sizes))), 0.0)

    def start(at, first):
        if queue:
            work, epoch = queue.pop(0)
            clock.now = at
            tally.cell_started(work)
            heapq.heappush(events, (at + (START if first else 0) + step(work), next(counter), work, epoch + 1, at))

    def step(work):
        return 0.95 * true[int(work.key)] / EPOCHS

    for _ in range(slots):
        start(0.0, True)
    etas, ended = [], 0
    while events:
        at, _, work, epoch, since = heapq.heappop(events)
        clock.now = at
        if epoch <= EPOCHS:
            tally.cell_epoch(work, {"epoch": epoch, "val_mae": 1.0})
            if epoch == pause_at:
                spent[work.key] += at - since
                tally.cell_paused(work)
                queue.append((work, epoch))
                start(at, False)
                continue
            tail = 0.05 * true[int(work.key)]
            heapq.heappush(
                events, (at + (tail if epoch == EPOCHS else step(work)), next(counter), work, epoch + 1, since)
            )
            continue
        tally.cell_ended(work, Ended("done", {}, None, spent[work.key] + at - since))
        ended += 1
        start(at, False)
        if ended >= CELLS // 3 and not etas:
            etas.append((at, tally.eta()))
    [(asked_at, eta)] = etas
    return eta, clock.now - asked_at


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("told", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_third_in_the_time_left_is_within_a_quarter(sizes, told, slots):
    for seed in range(20):
        eta, truth = simulate(SIZES[sizes], slots, told, seed)
        assert eta == pytest.approx(truth, rel=0.25), f"seed {seed}"


@pytest.mark.parametrize(
    ("sizes", "slots"), [("equal", 1), ("equal", 2), ("equal", 8), ("arms in turn", 1), ("arms in turn", 2)]
)
def test_without_a_plan_cells_are_taken_to_be_as_long_as_those_before(sizes, slots):
    eta, truth = simulate(SIZES[sizes], slots, None)
    assert eta == pytest.approx(truth, rel=0.25)


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("sizes", SIZES)
def test_cells_that_pause_at_a_rung_are_counted_with_what_is_left_of_them(sizes, slots):
    eta, truth = simulate(SIZES[sizes], slots, 1.0, pause_at=3)
    assert eta == pytest.approx(truth, rel=0.25)


def test_before_the_first_epoch_the_plan_is_believed():
    tally = Tally(clock=Clock())
    works = [Work(str(k), str(k), {}, epochs=4, expected_seconds=100.0 * (k + 1)) for k in range(3)]
    tally.matrix_started(works, 2)
    assert tally.eta() == pytest.approx(400)
    tally.cell_started(works[0])
    assert tally.eta() == pytest.approx(400)


def test_a_cell_that_resumes_from_its_checkpoint_has_the_pace_of_the_epochs_it_ran():
    row = Row(Work("a", "a", {}, epochs=10), "running", epoch=8, first_epoch=6, first_epoch_at=30.0, last_epoch_at=50.0)
    assert (row.pace, row.left) == (10.0, 2)


def test_a_pause_takes_no_part_in_a_cells_time():
    clock = Clock()
    tally, work = Tally(clock=clock), Work("a", "a", {}, epochs=4)
    tally.matrix_started([work], 1)
    tally.cell_started(work)
    for number in (1, 2):
        clock.now += 10
        tally.cell_epoch(work, {"epoch": number, "val_mae": 3.0 - number})
    tally.cell_paused(work)
    clock.now += 1000
    assert tally.counts() == {"paused": 1}
    assert (tally.elapsed(tally.rows["a"]), tally.eta()) == (20, pytest.approx(20))
    tally.cell_started(work)
    assert (tally.rows["a"].epoch, tally.rows["a"].best) == (2, 1.0)
    clock.now += 10
    tally.cell_epoch(work, {"epoch": 3, "val_mae": 4.0})
    assert tally.elapsed(tally.rows["a"]) == 30 and tally.eta() == pytest.approx(10)
