"""``altformer sync``: bring to MLflow what could not be logged there while runs went on."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder with the runs (default: runs)")


def run(args: argparse.Namespace) -> int:
    """Replay what waits in the spool; 0 when nothing is left there, 1 when something is, with the reason."""
    from cluster.tracking.location import resolve
    from cluster.tracking.writer import REFUSED, replay

    location = resolve(args.out)
    waiting = sorted(location.spool.glob("*.jsonl"))
    if not waiting:
        print(f"Nothing waits for MLflow at {location.shown} ({location.spool}).")
        return 0
    records = {path: _records(path) for path in waiting}
    print(f"{_files(len(waiting))} with {sum(records.values())} records for MLflow at {location.shown}", flush=True)
    replayed = replay(location)
    brought = sum(count for path, count in records.items() if path not in replayed.left)
    print(f"Brought over: {_files(replayed.replayed)} with {brought} records; nothing is logged twice.")
    if replayed.refused:
        print(f"Refused by MLflow: {replayed.refused} records, kept in {location.spool / REFUSED}")
    for path in replayed.left:
        print(f"Left: {path} ({records.get(path, 0)} records)")
    if replayed.left:
        print(f"Why: {replayed.problem}; the same command goes on.")
    return 1 if replayed.left or replayed.refused else 0


def _records(path: Path) -> int:
    """The events of a spool file, whose first line says whose they are."""
    try:
        with path.open("rb") as file:
            return max(sum(1 for _ in file) - 1, 0)
    except OSError:
        return 0


def _files(count: int) -> str:
    return "1 run's file" if count == 1 else f"{count} runs' files"
