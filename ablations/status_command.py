"""``altformer status``: how far a matrix is, also from another shell while it runs; or a cluster's jobs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from altformer.errors import UserError

if TYPE_CHECKING:
    from ablations.status import CellStatus, MatrixStatus

WORDS: Mapping[str, str] = {"retried": "to be tried again"}
LAST_NOTICES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="folder of a matrix, or its name below --out (the beginning is enough: depth); without it: all of them",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where matrices are found (default: runs)")
    parser.add_argument(
        "--address",
        metavar="URL",
        help="the jobs of the cluster with this dashboard instead (http://HEAD:8265); RUN is the id of one",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (without RUN: a list)")


def run(args: argparse.Namespace) -> int:
    """Print the state of one matrix cell by cell, or of all in a line each; with an address, of a cluster's jobs."""
    from ablations.folders import all_matrices, find_matrix
    from ablations.job_status import print_jobs
    from ablations.status import status_of

    if args.address is not None:
        print_jobs(args.address, args.run, args.json)
        return 0
    if args.run is not None:
        status = status_of(find_matrix(args.run, args.out))
        if args.json:
            print(json.dumps(_content(status)))
        else:
            _print_matrix(status)
        return 0
    found = []
    for folder in all_matrices(args.out):
        try:
            found.append(status_of(folder))
        except UserError as error:
            print(f"altformer: {error}", file=sys.stderr)
    if args.json:
        print(json.dumps([_content(status) for status in found]))
    elif found:
        _print_list(found)
    else:
        print(f"No matrix in {args.out} yet; `altformer ablate ...` makes them.")
    return 0


def _print_matrix(status: MatrixStatus) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cluster.progress import STYLES, duration, one_line

    plan, now = status.plan, time.time()
    print(f"{plan.title} on {plan.dataset} ({plan.profile}): {_state(status)}")
    table = Table(box=None, pad_edge=False)
    for title in ("arm", "seed", "status", "epoch", f"best {plan.objective}", "last sign"):
        table.add_column(title, overflow="fold", justify="left" if title in ("arm", "status") else "right")
    for cell in status.cells:
        table.add_row(
            Text(one_line(cell.arm)),
            str(cell.seed),
            Text(_cell_state(cell), style=STYLES.get(cell.status, "dim")),
            _epochs(cell),
            "-" if cell.best is None else f"{cell.best:.4f}",
            "-" if cell.seen is None else f"{duration(max(now - cell.seen, 0.0))} ago",
        )
    Console().print(table)
    for cell in status.cells:
        if cell.why:
            print(f"{WORDS.get(cell.status, cell.status)}: {one_line(cell.arm)} seed {cell.seed}: {one_line(cell.why)}")
    for at, text in status.notices[-LAST_NOTICES:]:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))} {one_line(text)}")
    print(_totals(status))
    print(f"Results: {status.folder}")


def _print_list(found: list[MatrixStatus]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cluster.progress import duration

    table, now = Table(box=None, pad_edge=False), time.time()
    for title in ("matrix", "state", "cells", "last sign"):
        table.add_column(title, overflow="fold")
    for status in found:
        seen = "-" if status.seen is None else f"{duration(max(now - status.seen, 0.0))} ago"
        table.add_row(Text(status.folder.name), status.state, _counts(status), seen)
    Console().print(table)


def _state(status: MatrixStatus) -> str:
    if status.running is None:
        return status.state
    phase = f"; it {status.phase}" if status.phase else ""
    return f"running ({status.running}){phase}"


def _cell_state(cell: CellStatus) -> str:
    retried = f", retried {cell.retries}" if cell.retries else ""
    return WORDS.get(cell.status, cell.status) + retried


def _epochs(cell: CellStatus) -> str:
    return str(cell.epoch) if cell.epochs is None else f"{cell.epoch}/{cell.epochs}"


def _counts(status: MatrixStatus) -> str:
    return ", ".join(f"{count} {WORDS.get(name, name)}" for name, count in status.counts.items())


def _totals(status: MatrixStatus) -> str:
    from cluster.progress import counted, duration

    parts = [f"{counted(len(status.cells), 'cell')}: {_counts(status)}"]
    if status.elapsed is not None:
        parts.append(f"running for {duration(status.elapsed)}")
    if status.eta is not None and status.phase == "":
        parts.append(f"about {duration(status.eta)} left")
    return "; ".join(parts)


def _content(status: MatrixStatus) -> dict[str, Any]:
    """As scripts get it; times in seconds since 1970."""
    return {
        "folder": str(status.folder.resolve()),
        "title": status.plan.title,
        "dataset": status.plan.dataset,
        "profile": status.plan.profile,
        "objective": status.plan.objective,
        "state": status.state,
        "phase": status.phase,
        "running": None if status.running is None else asdict(status.running),
        "elapsed_seconds": status.elapsed,
        "eta_seconds": status.eta,
        "counts": status.counts,
        "cells": [asdict(cell) for cell in status.cells],
        "notices": [{"t": at, "text": text} for at, text in status.notices],
    }
