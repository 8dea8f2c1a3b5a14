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


def test_the_start_of_a_slow_arm_is_no_patience_for_others_that_have_ended_epochs():
    still, _ = cell(600, arm="slow")
    still.started("b", "fast")
    for moved, allowed in ((1, 6000), (2, 100), (3, 100)):
        still.look({"b": moved}, 10)
        still.reported("b")
        assert still.allowed("b") == allowed


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


def test_another_cell_of_the_arm_says_that_the_longest_start_is_to_go_by():
    still, _ = cell(12, arm="slow")
    for key in ("b", "c", "d"):
        still.started(key, "another" if key == "c" else "slow")
    still.look({"b": 1, "c": 1}, 20)
    still.reported("c")
    assert still.allowed("b") == 200
    assert still.allowed("c") == 200
    assert still.allowed("d") == 900  # its processes have not come


def test_time_without_room_for_its_processes_is_no_part_of_a_start():
    still, _ = cell()
    still.look({"a": 0}, 500)
    still.look({"a": 1}, 7)
    still.reported("a")
    assert still.allowed("a") == 70


def test_a_cell_that_left_is_not_looked_at():
    still, moved = cell(0.1)
    still.ended("a")
    assert still.look({"a": moved}, 1000) == {}
    still.reported("a")  # a report that was under way
