"""The tables on MLflow of a scale simulation, from its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.scale.text import duration, milliseconds
from benchmarks.simulation_page import number_table, percent

KINDS = {
    "cell_started": "start of a cell",
    "cell_epoch": "epoch",
    "cell_ended": "end of a cell",
    "cell_files": "its record as a file",
}
EPOCH_SECONDS = (60.0, 30.0, 10.0, 5.0, 2.0)
SLOTS = (8, 64, 256, 1000)
METRICS = 17  # that a cell reports of an epoch


def store_tables(store: Mapping[str, Any]) -> Iterator[str]:
    """What the writer takes, what that means for the largest matrix, and what servers take from several drivers."""
    yield "### MLflow on SQLite"
    empty, full = store["singly"]["empty"], store["singly"]["full"]
    yield (
        "What the writer takes for one event, in milliseconds of the clock, and the calls that it makes: with an empty "
        f"store, and with {full['points_before']:,} points in it ({full['bytes'] / 1e9:.1f} GB), as many as the "
        f"largest matrix has. An epoch has {METRICS} metrics."
    )
    yield number_table(["event", "calls", "empty", "full"], _events(empty["each"], full["each"]))
    late, rate = store["backlog"], store["rate"]
    yield (
        f"With the full store the writer keeps up with **{rate:.0f} epochs a second** ({rate * METRICS:,.0f} points), "
        "all that belongs to their cells included, but no plots and of their files the record only. Behind a backlog "
        f"it puts {late['epochs_per_call']:.1f} epochs into a call."
    )
    yield (
        "The largest matrix, had its epochs taken so long (events at their moments of the simulation, the writer's "
        "times as with a full store): points and calls that come each second, how much of the time the writer is at "
        "work, the most events that wait, the longest that one waits, and how long after the matrix all is there."
    )
    header = [
        "an epoch takes",
        "points / s",
        "calls / s",
        "at work",
        "wait at most",
        "for at most",
        "behind at its end",
    ]
    yield number_table(header, map(_behind, store["behind"]))
    yield "The shortest mean epoch with which SQLite keeps up, by the number of cells that train at once."
    rows = [(f"{slots:,}", f"{slots / rate:.1f} s") for slots in SLOTS]
    yield number_table(["cells at once", "an epoch takes at least"], rows)
    if store["servers"]:
        yield (
            "Through `altformer mlflow-server`, from drivers with a matrix each, event by event (server, database and "
            "drivers share this machine; Postgres without fsync): epochs a second of all together."
        )
        yield number_table(["database", "drivers", "epochs a second"], map(_served, store["servers"]))


def _served(row: Mapping[str, Any]) -> Sequence[object]:
    return row["database"], row["drivers"], f"{row['epochs_per_second']:.0f}"


def _events(empty: Mapping[str, Any], full: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for kind, title in KINDS.items():
        if kind in empty and kind in full:
            times = (milliseconds(each[kind]["seconds"]) for each in (empty, full))
            yield title, f"{full[kind]['calls']:.1f}", *times


def _behind(row: Mapping[str, Any]) -> Sequence[str]:
    rates = (f"{row['points']:,.0f}", f"{row['calls']:,.1f}", percent(min(row["busy"], 1.0), 0))
    waits = (f"{row['waiting']:,}", duration(row["longest_wait"]), duration(row["behind"]))
    return f"{row['epoch_seconds']:g} s", *rates, *waits
