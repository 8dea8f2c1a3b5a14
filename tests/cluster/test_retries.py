"""Who is tried again, and when everybody fails of one cause."""

import pytest

from cluster.retries import Again, Attempts, Retries, Suspicion
from cluster.work import Fault, Work


def after(faults, limits=Retries(), key="a"):  # noqa: B008
    """What is done after each of these kinds of fault of one cell."""
    attempts = Attempts(limits)
    return [attempts.after(key, Fault(kind, "text"), "node-1") for kind in faults]


@pytest.mark.parametrize(
    ("faults", "again"),
    [
        (["died"] * 4, [True, True, True, False]),
        (["error"], [False]),
        (["disk"], [False]),
        (["memory"] * 2, [True, False]),
        (["hang"] * 2, [True, False]),
        (["hang", "memory", "died", "died"], [True, True, True, False]),
        (["node"] * 5 + ["died"] * 4, [True] * 8 + [False]),
        (["node"] * 11, [True] * 10 + [False]),
    ],
)
def test_limits_of_a_cell(faults, again):
    assert [one is not None for one in after(faults)] == again


def test_nodes_that_are_lost_count_only_until_an_epoch_is_done():
    attempts = Attempts(Retries())
    for _ in range(25):
        assert attempts.after("a", Fault("node", ""))
        attempts.reported("a")
    assert attempts.retries("a") == 25
    assert all(attempts.after("a", Fault("node", "")) for _ in range(10))
    assert attempts.after("a", Fault("node", "")) is None
    assert "11 nodes were lost under it before an epoch was done" in attempts.why_not("a", Fault("node", ""))


def test_what_another_attempt_does_differently():
    assert after(["died"]) == [Again()]
    assert after(["memory", "died"]) == [Again(double=True), Again(double=True)]
    assert after(["hang"]) == [Again(avoid="node-1")]
    assert after(["died"], Retries(per_cell=0)) == [None]


def test_the_limit_of_a_matrix_is_over_all_cells_and_nodes_do_not_count():
    attempts = Attempts(Retries(per_cell=3, per_matrix=2))
    assert attempts.after("a", Fault("node", ""))
    assert attempts.after("a", Fault("died", ""))
    assert attempts.after("b", Fault("died", ""))
    assert attempts.after("c", Fault("died", "")) is None
    assert attempts.after("c", Fault("node", ""))
    assert [attempts.retries(key) for key in "abcd"] == [2, 1, 1, 0]


def test_what_is_said_at_the_end_names_the_way_out():
    attempts = Attempts(Retries())
    fault = Fault("memory", "CUDA out of memory")
    attempts.after("a", fault)
    assert attempts.after("a", fault) is None
    said = attempts.why_not("a", fault, doubled=True)
    assert "after 1 other attempt, the last with twice the share" in said
    assert "out of memory after 1 other attempt: more" in attempts.why_not("a", fault)
    assert "training.gradient_accumulation_steps" in said
    assert "--gpus-per-worker" in said
    assert attempts.why_not("b", Fault("error", "ValueError")) == ""
    assert "at most 3 per cell and 20 per matrix" in attempts.why_not("b", Fault("died", ""))


def works(*arms, seeds=3):
    return [Work(f"{arm}{seed}", f"{arm} seed {seed}", {}, arm=arm) for arm in arms for seed in range(seeds)]


SAME = Fault("error", "ValueError: broken")


def fail(suspicion, cells, fault=SAME):
    for work in cells:
        suspicion.ended(work, fault)
    return suspicion.failing


def test_three_cells_of_two_arms_that_fail_alike_are_suspicious():
    cells = works("one", "two", "three", seeds=1)
    suspicion = Suspicion(cells)
    assert fail(suspicion, cells[:2]) == 0
    assert fail(suspicion, cells[2:]) == 3


def test_an_arm_of_its_own_is_not():
    cells = works("one", "two")
    assert fail(Suspicion(cells), cells[:3]) == 0
    assert fail(Suspicion(cells), cells[:4]) == 4
    alone = works("only", seeds=5)
    assert fail(Suspicion(alone), alone[:3]) == 3


def test_different_errors_are_not():
    cells = works("one", "two", "three", seeds=1)
    suspicion = Suspicion(cells)
    for number, work in enumerate(cells):
        assert fail(suspicion, [work], Fault("error", f"ValueError: {'abc'[number]}")) == 0


def test_a_cell_that_ends_well_or_gets_further_proves_the_others_wrong():
    cells = works("one", "two", "three", "four", seeds=1)
    well = Suspicion(cells)
    assert fail(well, cells[:3]) == 3
    well.ended(cells[3], None)
    assert well.failing == 0
    further = Suspicion(cells)
    for work in cells[:3]:
        further.reported(work.key, 2)
    assert fail(further, cells[:3]) == 3
    further.reported(cells[3].key, 2)
    assert further.failing == 3
    further.reported(cells[3].key, 3)
    assert further.failing == 0
