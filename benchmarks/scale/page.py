"""The tables of a scale simulation, from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.scale.store_page import store_tables
from benchmarks.scale.text import duration, hours, megabytes, milliseconds
from benchmarks.simulation_page import number_table, percent

Numbers = Mapping[str, Any]  # of one size, as benchmarks.scale.run writes them

PARTS = {  # of the driver's work beside running cells, by its name among the costs
    "queue": "queue: which cell is next",
    "rule": "early stopping",
    "watch before each event": "guard and budget, before each event",
    "watch": "watch: starts, reports, ends",
    "Events": "`events.jsonl`",
    "Tracker": "MLflow's journal",
    "Metrics": "gauges for Prometheus",
    "Lines": "lines of progress",
    "FailureRecords": "records of failed cells",
}
STAGES = {
    "plan": "plan, every cell hashed",
    "estimate": "estimate",
    "works, tracking": "cells made ready",
    "records read, statistics": "records read, statistics",
    "report written": "report with its plots",
    "altformer status": "`altformer status`",
    "plan of a second start": "plan of a second start, all done",
}


def tables(sizes: Sequence[Numbers], store: Mapping[str, Any], tune: Mapping[str, Any] | None) -> Iterator[str]:
    """The page's blocks; `store` as `benchmarks.scale.simulation` has it, `tune` from benchmarks.tune_cost."""
    yield from _limits(sizes[-1], store, tune)
    yield from _matrices(sizes)
    yield from _driver(sizes)
    yield from _stages(sizes)
    yield from _memory(sizes)
    yield from store_tables(store)
    yield from _tune(tune)


def _limits(last: Numbers, store: Mapping[str, Any], tune: Mapping[str, Any] | None) -> Iterator[str]:
    yield "### Where it ends"
    yield (
        f"What one driver on this machine keeps up with, each by itself, and what that means for {last['slots']:,} "
        "cells at once. A driver is one process with one interpreter: what is drawn, logged and decided shares a core."
    )
    yield number_table(["", "keeps up with", f"with {last['slots']:,} cells at once"], _ends(last, store, tune))


def _ends(last: Numbers, store: Mapping[str, Any], tune: Mapping[str, Any] | None) -> Iterator[Sequence[str]]:
    def epochs(what: str, rate: float) -> Sequence[str]:
        return what, f"{rate:,.0f} epochs a second", f"epochs of {last['slots'] / rate:.1f} s or more"

    def cells(what: str, rate: float) -> Sequence[str]:
        return what, f"{rate:.1f} cells a second", f"cells of {duration(last['slots'] / rate)} or more"

    yield epochs("MLflow's writer on SQLite", store["rate"])
    if last["plot_seconds"]:
        yield cells("plots for MLflow", 1 / last["plot_seconds"])
    if tune is not None:
        yield epochs("Ray Tune in the driver", 1 / tune["driver_cpu_per_epoch"])
        yield cells("Ray Tune in the driver", 1 / tune["driver_cpu_per_cell"])
    yield epochs("our own code in the driver", last["epochs_reported"] / driver_seconds(last))
    share = _share_of(last, last["peak_MB"])
    yield f"memory, cells of {last['epochs']} epochs", f"{share:.2f} MB a cell", f"{16_000 / share:,.0f} cells in 16 GB"


def _matrices(sizes: Sequence[Numbers]) -> Iterator[str]:
    last = sizes[-1]
    yield "### The matrices"
    yield (
        f"One cell on each GPU; {last['epochs']} epochs of {last['epoch_seconds']:g} s on average, arms slower and "
        f"faster; a node is lost after {last['node_hours']:g} h on average and is back 10 minutes later; scheduler "
        "futility. *Ideal* is the time that the cells held slots, spread evenly over all of them; *used* is the part "
        "of the slots' time in which an epoch was trained that counts."
    )
    rows: Sequence[tuple[str, Callable[[Numbers], str]]] = [
        ("nodes x GPUs", lambda one: f"{one['nodes']} x {one['gpus']}"),
        ("arms x seeds", lambda one: f"{one['arms']:,} x {one['seeds']}"),
        ("epochs reported", lambda one: f"{one['epochs_reported']:,}"),
        *((status, _count_of(status)) for status in ("done", "stopped", "diverged", "failed", "interrupted")),
        ("nodes lost", lambda one: f"{one['usage']['failures']}"),
        ("attempts that were lost", lambda one: f"{one['retries']}"),
        ("makespan", lambda one: hours(one["makespan"])),
        ("ideal", lambda one: hours(one["ideal"])),
        ("used", lambda one: percent(one["usage"]["trained"] / one["usage"]["there"])),
        ("time left, said after a quarter of the cells", lambda one: _said(one, 0.25)),
        ("time left, said half-way", lambda one: _said(one, 0.5)),
    ]
    yield _by_size(sizes, rows)


def _driver(sizes: Sequence[Numbers]) -> Iterator[str]:
    yield "### What the driver does while they run"
    yield (
        "Processor time of our own code in milliseconds a cell; Ray Tune, Ray and MLflow's writer come on top. What "
        "does not grow from column to column is linear in the cells."
    )
    rows: list[tuple[str, Callable[[Numbers], str]]] = [(title, _part(name)) for name, title in PARTS.items()]
    rows += [
        ("**together**", lambda one: f"**{milliseconds(driver_seconds(one) / one['cells'])}**"),
        ("for each reported epoch", lambda one: milliseconds(driver_seconds(one) / one["epochs_reported"])),
        ("share of a core, over the makespan", lambda one: percent(driver_seconds(one) / one["makespan"], 2)),
    ]
    yield _by_size(sizes, rows)
    yield (
        "Half-way, in milliseconds: one drawing of the live table (twice a second on a terminal), one line of progress "
        "(twice a minute without), one round of the gauges (every five seconds)."
    )
    views: list[tuple[str, Callable[[Numbers], str]]] = [
        ("live table", _view("table_seconds")),
        ("line of progress", _view("summary_seconds")),
        ("gauges", _view("gauges_seconds")),
        ("series of gauges", lambda one: f"{one['views'].get('gauges', 0):,.0f}"),
        ("plots of one cell for MLflow", lambda one: milliseconds(one["plot_seconds"])),
    ]
    yield _by_size(sizes, views)


def _stages(sizes: Sequence[Numbers]) -> Iterator[str]:
    yield "### Before and after"
    yield "Seconds of the clock, on a disk of this machine."
    yield _by_size(sizes, [(title, _stage(name)) for name, title in STAGES.items()])


def _memory(sizes: Sequence[Numbers]) -> Iterator[str]:
    yield "### Memory and files"
    yield "The driver's resident memory; a cell's share is what it grew by, divided by the cells."
    rows: Sequence[tuple[str, Callable[[Numbers], str]]] = [
        ("at the start, all imported", lambda one: megabytes(one["stages"]["imports"]["MB"])),
        ("with the plan", lambda one: megabytes(one["stages"]["works, tracking"]["MB"])),
        ("when all cells have ended", lambda one: megabytes(one["stages"]["run"]["MB"])),
        ("at most, with the report", lambda one: megabytes(one["peak_MB"])),
        ("a cell's share while running", lambda one: _share(one, one["stages"]["run"]["MB"])),
        ("a cell's share at most", lambda one: _share(one, one["peak_MB"])),
        ("`events.jsonl`", lambda one: megabytes(one["events_bytes"] / 1e6)),
        ("all `record.json`", lambda one: megabytes(one["records_bytes"] / 1e6)),
        ("MLflow's journal, were nothing brought over", lambda one: megabytes(one["journal_bytes"] / 1e6)),
        ("cells as they are sent to the mailbox", lambda one: megabytes(one["payload_bytes"] / 1e6)),
    ]
    yield _by_size(sizes, rows)


def _tune(tune: Mapping[str, Any] | None) -> Iterator[str]:
    yield "### Ray Tune's own cost, on real cells"
    if tune is None:
        yield "Not measured yet: `python -m benchmarks.tune_cost`."
        return
    yield (
        f"Measured by `python -m benchmarks.tune_cost` at commit {tune['commit']}, {tune['date']}, on "
        f"{tune['hardware']}: {tune['cells']} cells that train nothing, {tune['slots']} at once, through "
        "`cluster.runner`; driver, Ray and trials share the cores."
    )
    yield (
        "A cell that comes back from a rung, or is tried again, is one more trial. *Where it ends*, above, has what "
        "follows for the reports that one driver takes, by its processor time."
    )
    yield number_table(["", "measured"], _measured(tune))


def _measured(tune: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    yield "seconds of the clock a cell, all slots busy", f"{tune['seconds_per_cell']:.3f}"
    yield "the same, first and last third of the cells", f"{tune['first_third']:.3f}, {tune['last_third']:.3f}"
    yield "processor seconds of the driver a cell", f"{tune['driver_cpu_per_cell']:.3f}"
    yield "processor seconds of the driver for each further epoch", f"{tune['driver_cpu_per_epoch']:.4f}"
    yield "seconds of the clock for each further epoch, all slots busy", f"{tune['seconds_per_epoch']:.4f}"
    yield "the driver's memory grows by, a cell", f"{tune['megabytes_per_cell']:.2f} MB"


def driver_seconds(one: Numbers) -> float:
    """Of our own code in the driver, while cells run."""
    return float(sum(one["parts"].values()))


def _by_size(sizes: Sequence[Numbers], rows: Sequence[tuple[str, Callable[[Numbers], str]]]) -> str:
    header = ["cells", *(f"{one['cells']:,}" for one in sizes)]
    table: str = number_table(header, [(title, *map(value, sizes)) for title, value in rows])
    return table.replace("&#96;", "`").replace("\\*\\*", "**")


def _count_of(status: str) -> Callable[[Numbers], str]:
    return lambda one: f"{one['statuses'].get(status, 0):,}"


def _part(name: str) -> Callable[[Numbers], str]:
    return lambda one: milliseconds(one["parts"].get(name, 0.0) / one["cells"])


def _view(name: str) -> Callable[[Numbers], str]:
    return lambda one: milliseconds(one["views"].get(name))


def _stage(name: str) -> Callable[[Numbers], str]:
    return lambda one: f"{one['stages'][name]['wall']:.1f}"


def _said(one: Numbers, share: float) -> str:
    for asked, said, was in one["eta"]:
        if asked == share:
            return f"{hours(said)}, was {hours(was)}"
    return "-"


def _share(one: Numbers, megabytes: float) -> str:
    return f"{_share_of(one, megabytes):.2f} MB"


def _share_of(one: Numbers, megabytes: float) -> float:
    """MB that the driver has grown by for each cell."""
    return float((megabytes - one["stages"]["imports"]["MB"]) / one["cells"])
