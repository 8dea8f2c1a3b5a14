"""What a person sees while a matrix runs: a live table of cells on a terminal, else plain lines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.eta import GOES_ON, Row
from cluster.tally import Clock, Tally
from cluster.work import Ended, Fault, FaultKind, Listener, Outcome, Work

# Not a terminal: at most one line of progress in so many seconds, besides one for each start and end.
_LINE_SECONDS = 30.0

# Of an error's last line; all of it is in the cell's record.
_WHY_LETTERS = 160
_NAMED = 10  # running cells in a line

#: The colour of a status.
STYLES: Mapping[str, str] = {
    "running": "bold",
    "paused": "cyan",
    "retried": "yellow",
    "done": "green",
    "stopped": "yellow",
    "diverged": "magenta",
    "failed": "red",
    "interrupted": "yellow",
    "waiting": "dim",
}

# What ended an attempt that is followed by another.
_LOST: Mapping[FaultKind, str] = {
    "error": "it failed",
    "died": "its process died",
    "node": "its node was lost",
    "memory": "it ran out of memory",
    "disk": "the disk was full",
    "hang": "it hung",
}


class Lines(Tally):
    """One line when a cell starts and ends, and now and then one on where the matrix is."""

    def __init__(self, console: Console, metric: str, clock: Clock = time.monotonic) -> None:
        super().__init__(metric, clock)
        self._console = console
        self._said = 0.0

    def matrix_started(self, works: Sequence[Work], slots: int) -> None:
        """Say how much there is to do."""
        super().matrix_started(works, slots)
        self._said = self._clock()
        self._say(f"{counted(len(works), 'cell')} to run, {slots} at once")

    def cell_started(self, work: Work) -> None:
        """Say so."""
        goes_on = self.rows[work.key].status in GOES_ON or work.epochs_done
        super().cell_started(work)
        self._say(f"resume {work.name}, epoch {_epochs(self.rows[work.key])}" if goes_on else f"start  {work.name}")

    def cell_epoch(self, work: Work, metrics: Mapping[str, Any]) -> None:
        """Say where the matrix is, if that was long ago."""
        super().cell_epoch(work, metrics)
        if self._clock() - self._said >= _LINE_SECONDS:
            self._said = self._clock()
            running = [row for row in self.rows.values() if row.status == "running"]
            names = [f"{row.work.name} {_epochs(row)}" for row in running[:_NAMED]]
            others = f" and {len(running) - _NAMED} more" if len(running) > _NAMED else ""
            self._say(f"{summary(self)}; running: {', '.join(names)}{others}")

    def cell_paused(self, work: Work) -> None:
        """Say so."""
        super().cell_paused(work)
        row = self.rows[work.key]
        self._say(f"paused {work.name}, epoch {_epochs(row)}, best {self.metric} {_number(row.best)}")

    def cell_retried(self, work: Work, fault: Fault, retries: int) -> None:
        """Say so, and why."""
        super().cell_retried(work, fault, retries)
        self._say(f"again  {lost_attempt(self.rows[work.key], fault)}")

    def notice(self, text: str) -> None:
        """Say it."""
        self._say(f"notice {text}")

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """Say how."""
        super().cell_ended(work, ended)
        row = self.rows[work.key]
        why = f": {ended.error.splitlines()[-1][:_WHY_LETTERS]}" if ended.error else ""
        best = f", best {self.metric} {_number(row.best)}"
        self._say(f"{ended.status:<6} {work.name}, epoch {_epochs(row)}{best}, {duration(ended.seconds)}{why}")

    def interrupted(self, signal_name: str, seconds: float) -> None:
        """Say what happens now."""
        self._say(_leaving(signal_name, seconds))

    def matrix_ended(self, outcome: Outcome) -> None:
        """Say what came out."""
        self._say(summary(self) + (f"; the budget of {outcome.budget} is spent" if outcome.budget else ""))

    def _say(self, line: str) -> None:
        stamp = time.strftime("%H:%M:%S")
        self._console.print(Text(f"{stamp} {one_line(line)}"), soft_wrap=True)


class LiveTable(Tally):
    """A table of cells that is redrawn in place; what does not fit on the screen is counted below it."""

    def __init__(self, console: Console, metric: str, clock: Clock = time.monotonic) -> None:
        super().__init__(metric, clock)
        self._console = console
        self._note = ""
        self._live: Live | None = None

    def matrix_started(self, works: Sequence[Work], slots: int) -> None:
        """Show the table."""
        super().matrix_started(works, slots)
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=2)
        self._live.start()

    def cell_retried(self, work: Work, fault: Fault, retries: int) -> None:
        """Leave a line above the table."""
        super().cell_retried(work, fault, retries)
        self._above(f"again  {lost_attempt(self.rows[work.key], fault)}")

    def notice(self, text: str) -> None:
        """Leave a line above the table."""
        self._above(f"notice {text}")

    def _above(self, line: str) -> None:
        self._console.print(Text(f"{time.strftime('%H:%M:%S')} {one_line(line)}"), soft_wrap=True)

    def interrupted(self, signal_name: str, seconds: float) -> None:
        """Say below the table what happens now."""
        self._note = _leaving(signal_name, seconds)

    def matrix_ended(self, outcome: Outcome) -> None:
        """Leave the table as it is at the end."""
        if outcome.budget:
            self._note = f"The budget of {outcome.budget} is spent"
        if self._live is not None:
            self._live.stop()
            self._live = None

    def render(self) -> Group:
        """The table and the lines below it."""
        table = Table(box=None, pad_edge=False)
        table.add_column("cell", overflow="ellipsis", no_wrap=True)
        table.add_column("status")
        for title in ("epoch", f"best {self.metric}", "time"):
            table.add_column(title, justify="right", no_wrap=True)
        room = max(self._console.height - 6, 5)
        shown = self._ordered()[:room]
        for row in shown:
            time_taken = duration(self.elapsed(row)) if row.status != "waiting" else ""
            table.add_row(
                Text(one_line(row.work.name)),
                Text(_state(row), style=STYLES.get(row.status, "")),
                Text(_epochs(row)),
                Text(_number(row.best)),
                Text(time_taken),
            )
        below = [summary(self)]
        if len(shown) < len(self.rows):
            below[0] += f" ({len(self.rows) - len(shown)} not shown)"
        return Group(table, *(Text(line) for line in [*below, self._note] if line))

    def _ordered(self) -> list[Row]:
        """What is of interest first: running, failed, paused cells, then those that ended last, those that wait."""
        rank = {"running": 0, "failed": 1, "retried": 1, "paused": 2, "waiting": 4}
        return sorted(self.rows.values(), key=lambda row: (rank.get(row.status, 3), -row.began))


def progress_listener(metric: str = "val_mae", console: Console | None = None) -> Listener:
    """The live table if `console` is a terminal that can redraw, else plain lines."""
    console = console or Console()
    kind = LiveTable if console.is_terminal and not console.is_dumb_terminal else Lines
    return kind(console, metric)


def lost_attempt(row: Row, fault: Fault) -> str:
    """A cell that is tried again, what ended the attempt, and where it goes on."""
    epoch = row.epoch or row.work.epochs_done
    goes_on = f"goes on after epoch {epoch}" if epoch else "begins anew"
    return f"{row.work.name} ({_LOST[fault.kind]}; {goes_on})"


def summary(tally: Tally) -> str:
    """Cells by status and the time left, in a line."""
    counts = ", ".join(f"{count} {status}" for status, count in tally.counts().items())
    eta = tally.eta()
    open_cells = any(row.status in ("running", "waiting", *GOES_ON) for row in tally.rows.values())
    left = f"; about {duration(eta)} left" if eta is not None and open_cells else ""
    return f"{counts or 'nothing to run'}{left}"


def duration(seconds: float) -> str:
    """Seconds for people: two units, the larger ones rounded down."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 cell`, `3 cells`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def one_line(text: str) -> str:
    """The text with anything that would move the cursor made a space; names come from users."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _state(row: Row) -> str:
    """The status, and for a cell that is tried again the number of that attempt."""
    return f"{row.status} {row.retries}" if row.retries and row.status in ("retried", "running") else row.status


def _epochs(row: Row) -> str:
    epoch = row.epoch or row.work.epochs_done
    return f"{epoch}/{row.work.epochs}" if row.work.epochs is not None else str(epoch)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _leaving(why: str, seconds: float) -> str:
    if not why.startswith("SIG"):
        return f"{why[:1].upper()}{why[1:]}: running cells leave with a checkpoint"
    return f"{why}: running cells leave with a checkpoint (up to {duration(seconds)}); once more to end at once"
