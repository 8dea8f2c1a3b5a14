import io
from dataclasses import replace

import pytest
from rich.console import Console

from cluster.progress import Lines, LiveTable, Tally, duration, one_line, progress_listener, summary
from cluster.work import Ended, Fault, Outcome, Work


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def works(count, epochs=4):
    return [Work(f"k{index}", f"cell {index}", {}, epochs=epochs) for index in range(count)]


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, height=30, color_system=None)


def epoch(tally, clock, work, number, seconds=10.0, **metrics):
    clock.now += seconds
    tally.cell_epoch(work, {"epoch": number, "val_mae": 5.0 - number, **metrics})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("1-1 seed 0", "1-1 seed 0"), ("a\nb\x1b[2Jc\r", "a b [2Jc "), ("größe β", "größe β")]
)
def test_names_cannot_move_the_cursor(text, shown):
    assert one_line(text) == shown


def test_eta_is_unknown_before_the_first_epoch():
    tally = Tally(clock=Clock())
    tally.matrix_started(works(3), slots=2)
    assert tally.eta() is None
    tally.cell_started(works(3)[0])
    assert tally.eta() is None


def test_eta_hands_waiting_cells_to_slots_as_they_fall_free():
    clock, cells = Clock(), works(5)
    tally = Tally(clock=clock)
    tally.matrix_started(cells, slots=2)
    tally.cell_started(cells[0])
    tally.cell_started(cells[1])
    epoch(tally, clock, cells[0], 1, seconds=10)
    tally.cell_epoch(cells[1], {"epoch": 1, "val_mae": 1.0})
    # 10 s an epoch, 4 epochs: 30 s left in both slots, then 3 cells of 40 s on 2 slots.
    assert tally.eta() == pytest.approx(30 + 80)
    for work in cells[:2]:
        tally.cell_ended(work, Ended("done", {}, None, 50.0))
    # Now a cell is known to take 50 s with all that follows its epochs.
    assert tally.eta() == pytest.approx(100)


def test_eta_expects_the_start_of_processes_once_and_the_end_of_a_cell_each_time():
    clock, cells = Clock(), works(3)
    tally = Tally(clock=clock)
    tally.matrix_started(cells, slots=1)
    tally.cell_started(cells[0])
    epoch(tally, clock, cells[0], 1, seconds=30)  # 20 s of it are imports
    for number in (2, 3, 4):
        epoch(tally, clock, cells[0], number)
    tally.cell_ended(cells[0], Ended("done", {}, None, 65.0))  # 5 s of scoring
    assert tally.eta() == pytest.approx(2 * 45)
    tally.cell_started(cells[1])
    epoch(tally, clock, cells[1], 1)
    epoch(tally, clock, cells[1], 2)
    assert tally.eta() == pytest.approx(2 * 10 + 5 + 45)


def test_eta_uses_a_running_cells_own_pace():
    clock, cells = Clock(), works(2)
    tally = Tally(clock=clock)
    tally.matrix_started(cells, slots=2)
    for work in cells:
        tally.cell_started(work)
    epoch(tally, clock, cells[0], 1, seconds=1)
    epoch(tally, clock, cells[1], 1, seconds=19)
    assert tally.eta() == pytest.approx(3 * 20)


def test_eta_is_zero_at_the_end_and_the_summary_does_not_say_it():
    clock, cells = Clock(), works(1)
    tally = Tally(clock=clock)
    tally.matrix_started(cells, slots=1)
    tally.cell_started(cells[0])
    epoch(tally, clock, cells[0], 1)
    tally.cell_ended(cells[0], Ended("failed", None, "ValueError: x", 3.0))
    assert summary(tally) == "1 failed"


def test_the_best_value_is_kept_and_nan_is_none():
    tally, cells = Tally(clock=Clock()), works(1)
    tally.matrix_started(cells, slots=1)
    tally.cell_started(cells[0])
    for number, value in enumerate([4.0, float("nan"), None, 1.0, 2.0], start=1):
        tally.cell_epoch(cells[0], {"epoch": number, "val_mae": value})
    assert (tally.rows["k0"].best, tally.rows["k0"].epoch) == (1.0, 5)


def test_a_cell_that_an_earlier_run_began_shows_its_epoch_before_the_first_report():
    clock, out, cells = Clock(), console(False), works(1, epochs=5)
    lines = Lines(out, "val_mae", clock=clock)
    cells = [replace(cells[0], epochs_done=3)]
    lines.matrix_started(cells, 1)
    lines.cell_started(cells[0])
    assert out.file.getvalue().splitlines()[-1].endswith(" resume cell 0, epoch 3/5")
    epoch(lines, clock, cells[0], 4, seconds=40.0)
    assert out.file.getvalue().splitlines()[-1].endswith("; running: cell 0 4/5")


def test_a_line_names_ten_cells_of_the_many_that_run():
    clock, out, cells = Clock(), console(False), works(12, epochs=9)
    lines = Lines(out, "val_mae", clock=clock)
    lines.matrix_started(cells, 12)
    for work in cells:
        lines.cell_started(work)
    epoch(lines, clock, cells[11], 1, seconds=40.0)
    line = out.file.getvalue().splitlines()[-1]
    assert "; running: cell 0 0/9, cell 1 0/9, " in line
    assert line.endswith(", cell 9 0/9 and 2 more")


def test_lines_are_few_and_say_starts_ends_and_reasons():
    clock, out, cells = Clock(), console(False), works(2, epochs=100)
    lines = Lines(out, "val_mae", clock=clock)
    lines.matrix_started(cells, 1)
    lines.cell_started(cells[0])
    for number in range(1, 101):
        epoch(lines, clock, cells[0], number, seconds=1.0)
    lines.cell_ended(cells[0], Ended("done", {}, None, 101.0))
    lines.cell_started(cells[1])
    lines.cell_ended(cells[1], Ended("failed", None, "Traceback\n  ...\nValueError: [red]x[/red]" + "." * 200, 2.0))
    lines.matrix_ended(Outcome({}, (), None, 1, 103.0))
    said = [line.split(" ", 1)[1] for line in out.file.getvalue().splitlines()]
    progress = [line for line in said if "; running: " in line]
    assert len(progress) == 3  # after 30, 60 and 90 of 100 s
    assert progress[0].endswith("; running: cell 0 30/100")
    assert [line for line in said if line not in progress] == [
        "2 cells to run, 1 at once",
        "start  cell 0",
        "done   cell 0, epoch 100/100, best val_mae -95.0000, 1 min 41 s",
        "start  cell 1",
        "failed cell 1, epoch 0/100, best val_mae -, 2 s: ValueError: [red]x[/red]" + "." * 136,
        "1 done, 1 failed",
    ]


def test_lines_say_pauses_and_that_the_budget_is_spent():
    clock, out, cells = Clock(), console(False), works(2)
    lines = Lines(out, "val_mae", clock=clock)
    lines.matrix_started(cells, 1)
    lines.cell_started(cells[0])
    epoch(lines, clock, cells[0], 1)
    lines.cell_paused(cells[0])
    lines.cell_started(cells[0])
    lines.interrupted("the budget of 2 hours is spent", 30.0)
    lines.cell_ended(cells[0], Ended("interrupted", None, None, 10.0))
    lines.matrix_ended(Outcome({}, (), None, 1, 10.0, "2 hours"))
    assert [line.split(" ", 1)[1] for line in out.file.getvalue().splitlines()] == [
        "2 cells to run, 1 at once",
        "start  cell 0",
        "paused cell 0, epoch 1/4, best val_mae 4.0000",
        "resume cell 0, epoch 1/4",
        "The budget of 2 hours is spent: running cells leave with a checkpoint",
        "interrupted cell 0, epoch 1/4, best val_mae 4.0000, 10 s",
        "1 interrupted, 1 waiting; about 40 s left; the budget of 2 hours is spent",
    ]


def test_the_table_shows_paused_cells_and_leaves_the_budget_below():
    clock, out, cells = Clock(), console(True), works(2)
    table = LiveTable(out, "val_mae", clock=clock)
    Tally.matrix_started(table, cells, 1)
    table.cell_started(cells[0])
    epoch(table, clock, cells[0], 1)
    table.cell_paused(cells[0])
    clock.now += 500
    table.matrix_ended(Outcome({}, (), None, 1, 10.0, "10 cells"))
    out.print(table.render())
    drawn = [" ".join(line.split()) for line in out.file.getvalue().splitlines()]
    assert drawn == [
        "cell status epoch best val_mae time",
        "cell 0 paused 1/4 4.0000 10 s",
        "cell 1 waiting 0/4 -",
        "1 paused, 1 waiting; about 1 min 10 s left",
        "The budget of 10 cells is spent",
    ]


def test_lines_say_why_a_cell_is_tried_again_and_what_happens_to_the_cluster():
    clock, out, cells = Clock(), console(False), works(2)
    lines = Lines(out, "val_mae", clock=clock)
    lines.matrix_started(cells, 1)
    lines.cell_started(cells[0])
    lines.cell_retried(cells[0], Fault("memory", "CUDA out of memory"), 1)
    lines.cell_started(cells[0])
    epoch(lines, clock, cells[0], 1)
    epoch(lines, clock, cells[0], 2)
    lines.cell_retried(cells[0], Fault("died", "Traceback\nit died"), 2)
    lines.notice("node a1 is lost:\n1 is left")
    lines.cell_started(cells[0])
    lines.cell_ended(cells[0], Ended("done", {}, None, 30.0, retries=2))
    assert [line.split(" ", 1)[1] for line in out.file.getvalue().splitlines()] == [
        "2 cells to run, 1 at once",
        "start  cell 0",
        "again  cell 0 (it ran out of memory; begins anew)",
        "resume cell 0, epoch 0/4",
        "again  cell 0 (its process died; goes on after epoch 2)",
        "notice node a1 is lost: 1 is left",
        "resume cell 0, epoch 2/4",
        "done   cell 0, epoch 2/4, best val_mae 3.0000, 30 s",
    ]


def test_the_table_shows_cells_that_are_tried_again_and_lines_above_it():
    clock, out, cells = Clock(), console(True), works(2)
    table = LiveTable(out, "val_mae", clock=clock)
    Tally.matrix_started(table, cells, 1)
    table.cell_started(cells[0])
    epoch(table, clock, cells[0], 1)
    table.cell_retried(cells[0], Fault("node", "gone"), 1)
    clock.now += 500
    table.notice("node a1 is lost")
    out.print(table.render())
    table.cell_started(cells[0])
    epoch(table, clock, cells[0], 2)
    out.print(table.render())
    drawn = [" ".join(line.split()) for line in out.file.getvalue().splitlines()]
    assert [line.split(" ", 1)[1] for line in drawn[:2]] == [
        "again cell 0 (its node was lost; goes on after epoch 1)",
        "notice node a1 is lost",
    ]
    assert drawn[2:] == [
        "cell status epoch best val_mae time",
        "cell 0 retried 1 1/4 4.0000 10 s",
        "cell 1 waiting 0/4 -",
        "1 retried, 1 waiting; about 1 min 10 s left",
        "cell status epoch best val_mae time",
        "cell 0 running 1 2/4 3.0000 20 s",
        "cell 1 waiting 0/4 -",
        "1 running, 1 waiting; about 1 min 00 s left",
    ]


def test_the_table_shows_every_cell_with_its_state():
    clock, out = Clock(), console(True)
    cells = [Work("k0", "[bold]1-1[/bold]\nseed 0", {}, epochs=4), *works(3)[1:]]
    table = LiveTable(out, "val_mae", clock=clock)
    Tally.matrix_started(table, cells, 2)
    table.cell_started(cells[0])
    epoch(table, clock, cells[0], 1)
    table.cell_started(cells[1])
    table.cell_ended(cells[1], Ended("stopped", {}, None, 7.0))
    table.interrupted("SIGINT", 30.0)
    out.print(table.render())
    drawn = [" ".join(line.split()) for line in out.file.getvalue().splitlines()]
    assert drawn == [
        "cell status epoch best val_mae time",
        "[bold]1-1[/bold] seed 0 running 1/4 4.0000 10 s",
        "cell 1 stopped 0/4 - 7 s",
        "cell 2 waiting 0/4 -",
        "1 running, 1 stopped, 1 waiting; about 30 s left",
        "SIGINT: running cells leave with a checkpoint (up to 30 s); once more to end at once",
    ]


def test_what_does_not_fit_is_counted_and_running_cells_are_shown_first():
    out = console(True)
    cells = works(300)
    table = LiveTable(out, "val_mae", clock=Clock())
    Tally.matrix_started(table, cells, 2)
    table.cell_started(cells[299])
    out.print(table.render())
    drawn = out.file.getvalue().splitlines()
    assert len(drawn) <= out.height
    assert "cell 299" in drawn[1]
    assert "(276 not shown)" in drawn[-1]


def test_the_live_table_starts_and_ends():
    out, cells = console(True), works(1)
    table = progress_listener(console=out)
    assert isinstance(table, LiveTable)
    table.matrix_started(cells, 1)
    table.cell_started(cells[0])
    table.cell_epoch(cells[0], {"epoch": 1, "val_mae": 2.5})
    table.cell_ended(cells[0], Ended("done", {}, None, 1.0))
    table.matrix_ended(Outcome({}, (), None, 1, 1.0))
    assert "2.5000" in out.file.getvalue()


def test_without_a_terminal_there_are_lines():
    assert isinstance(progress_listener(console=console(False)), Lines)
