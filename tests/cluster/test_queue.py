"""Who is given out next, and whether what was given out has room, without Ray's processes."""

import threading

import pytest

from cluster.queue import Queue
from cluster.retries import Again
from cluster.work import Work

DOUBLE = {"CPU": 4.0, "GPU": 0.0}


def queue(*keys, slots=4, double_bundle=DOUBLE, decide=lambda key: "go"):
    return Queue([Work(key, key, {}) for key in keys], slots, decide, threading.Event(), double_bundle=double_bundle)


def lose(waiting, trial, key, how):
    waiting.on_trial_complete(trial, error=True)
    waiting.again(Work(key, key, {}), how)


def test_a_cell_that_lacked_memory_is_given_twice_the_share_and_takes_two_places():
    cells = queue("a", "b", "c", slots=2)
    assert "bundle" not in cells.suggest("t1")
    lose(cells, "t1", "a", Again(double=True))
    assert cells.suggest("t2")["bundle"] == DOUBLE
    assert (cells.running, cells.doubled) == (2, {"a"})
    assert cells.suggest("t3") is None, "no other fits beside it"


def test_where_no_device_holds_twice_the_share_the_cell_has_its_own_again():
    cells = queue("a", double_bundle=None)
    cells.suggest("t1")
    lose(cells, "t1", "a", Again(double=True))
    assert "bundle" not in cells.suggest("t2")
    assert (cells.running, cells.doubled) == (1, set())


@pytest.mark.parametrize("double_bundle", [DOUBLE, None], ids=["still to be had", "not to be had any more"])
def test_room_is_looked_for_by_what_a_cell_was_given(double_bundle):
    cells = queue("a")
    cells.suggest("t1")
    lose(cells, "t1", "a", Again(double=True))
    cells.suggest("t2")
    cells.double_bundle = double_bundle  # as after the loss of a node
    asked = []

    def fits(bundle, avoid):
        asked.append((bundle, avoid))
        return bundle is None

    assert cells.without_room((), fits)
    assert asked == [(DOUBLE, "")]
    assert not cells.without_room(("a",), fits), "what has begun has room"
    assert cells.running == 2


def test_a_cell_that_hung_has_room_only_beside_its_former_node():
    cells = queue("a")
    cells.suggest("t1")
    lose(cells, "t1", "a", Again(avoid="node-1"))
    assert cells.suggest("t2")["cell"]["avoid"] == "node-1"
    assert cells.without_room((), lambda bundle, avoid: avoid != "node-1")
    assert not cells.without_room((), lambda bundle, avoid: avoid == "node-1")


def test_nothing_given_out_is_not_without_room():
    assert not queue("a").without_room((), lambda bundle, avoid: False)


def test_lost_cells_come_before_those_that_waited_and_those_before_new_ones():
    paused = {"b"}
    cells = queue("a", "b", "c", decide=lambda key: "pause" if key in paused else "go")
    assert [cells.suggest("t1")["cell"]["key"], cells.suggest("t2")["cell"]["key"]] == ["a", "c"]
    lose(cells, "t1", "a", Again())
    paused.clear()
    assert [cells.suggest("t3")["cell"]["key"], cells.suggest("t4")["cell"]["key"]] == ["a", "b"]
    assert cells.suggest("t5") is None
    for trial in ("t2", "t3", "t4"):
        cells.on_trial_complete(trial)
    assert cells.suggest("t6") == "FINISHED"
