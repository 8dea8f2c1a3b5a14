"""Who stands still for too long, in seconds that are given."""

from cluster.hangs import Patience, Stillness

PATIENCE = Patience(factor=10, least_seconds=60, first_seconds=900)


def cell(*epochs, arm="arm"):
    """A cell whose reports came after these seconds, and its count of movements."""
    still = Stillness(PATIENCE)
    still.started("a", arm)
    moved = 0
    for seconds in epochs:
        moved += 1
        assert still.look({"a": moved}, seconds) == {}
        still.reported("a")
    return still, moved


def test_before_the_first_report_much_is_allowed():
    still, moved = cell()
    assert still.look({"a": moved}, 1) == {}
    assert still.look({"a": moved}, 899) == {}
    assert still.look({"a": moved}, 10) == {"a": 909}


def test_then_ten_times_the_longest_epoch():
    still, moved = cell(1, 20, 8)
    assert still.allowed("a") == 200
    assert still.look({"a": moved}, 200) == {}
    assert still.look({"a": moved}, 1) == {"a": 201}


def test_short_epochs_have_a_minute():
    still, moved = cell(0.1, 0.2)
    assert still.look({"a": moved}, 59) == {}
    assert still.look({"a": moved}, 2) == {"a": 61}


def test_any_movement_starts_the_count_anew():
    still, moved = cell(0.1, 0.2)
    for _ in range(10):
        moved += 1
        assert still.look({"a": moved}, 50) == {}


def test_a_cell_whose_processes_never_came_hangs_too():
    still, _ = cell()
    assert still.look({}, 900) == {}
    assert still.look({}, 1) == {"a": 901}


def test_another_cell_of_the_arm_says_how_long_a_start_takes():
    still, _ = cell(12, arm="slow")
    still.started("b", "slow")
    still.started("c", "other")
    assert still.allowed("b") == 120
    assert still.allowed("c") == 900


def test_a_cell_that_left_is_not_looked_at():
    still, moved = cell(0.1)
    still.ended("a")
    assert still.look({"a": moved}, 1000) == {}
    still.reported("a")  # a report that was under way
