"""``altformer compare``: two cells, or two arms seed by seed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.comparison import MetricRow, SideBySide

RUN_HELP = "a cell (hash, folder or experiment name), or an arm as MATRIX:ARM with the matrix's folder or its name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("a", metavar="A", help=RUN_HELP)
    parser.add_argument("b", metavar="B", help="the same; differences are B minus A")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are found (default: runs)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the configurations' differences, both sides' numbers, and for arms the paired statistics."""
    from ablations.comparison import find_side, side_by_side

    found = side_by_side(find_side(args.a, args.out), find_side(args.b, args.out))
    if args.json:
        print(json.dumps(as_json(found), indent=1))
    else:
        _print_comparison(found)
    return 0


def as_json(found: SideBySide) -> dict[str, Any]:
    """The printed object; what there is no number for is null."""
    of, statistics = ("a", "b"), found.statistics
    return {
        "a": {"name": found.a.name, "cells": [cell.cell_hash for cell in found.a.cells]},
        "b": {"name": found.b.name, "cells": [cell.cell_hash for cell in found.b.cells]},
        "warnings": list(found.warnings),
        "configuration": {path: dict(zip(of, values, strict=True)) for path, *values in found.configuration},
        "metrics": {row.column: _row_json(row) for row in found.metrics},
        "reported": found.reported,
        "by_seed": {str(seed): dict(zip(of, pair, strict=True)) for seed, pair in found.by_seed.items()},
        "statistics": vars(statistics) | {"seeds": list(statistics.seeds)} if statistics else None,
        "margin": found.margin if statistics else None,
    }


def _print_comparison(found: SideBySide) -> None:
    """All of it as tables, warnings first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()

    def show(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: bool = True) -> None:
        table = Table(box=None, pad_edge=False)
        for place, column in enumerate(header):
            table.add_column(column, overflow="fold", justify="right" if numbers and place else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        print()

    print(f"A: {found.a.name}\nB: {found.b.name}")
    for warning in found.warnings:
        print(f"Warning: {warning}")
    print("\nConfiguration" if found.configuration else "\nThe configurations are equal.")
    if found.configuration:
        show(("field", "A", "B"), list(found.configuration), numbers=False)
    paired = ", mean ± standard deviation over seeds [95 % interval of the paired difference]"
    print("Numbers" + paired * (found.statistics is not None))
    show(("metric", "A", "B", "B - A"), [_texts(row) for row in found.metrics])
    if found.statistics is not None:
        from ablations.arm_results import metric_name

        print(f"Seed by seed: {metric_name(found.reported)}")
        rows = [(str(seed), f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}") for seed, (a, b) in found.by_seed.items()]
        show(("seed", "A", "B", "B - A"), rows)
        print(_verdict_text(found))


def _verdict_text(found: SideBySide) -> str:
    """What the paired statistics say of B against A, or why they say nothing."""
    from ablations.arm_results import metric_name
    from ablations.power import MIN_SEEDS
    from ablations.reports.numbers import difference, p_value

    statistics = found.statistics
    assert statistics is not None
    n = len(statistics.seeds)
    if n < 2:
        return f"No statistics: {statistics.note or 'no seed in common'}, {MIN_SEEDS} needed."
    lines = [f"B against A by {metric_name(found.reported)}: {statistics.verdict}; {difference(statistics)}"]
    if statistics.note:
        lines.append(f"Note: {statistics.note}.")
    if statistics.p is not None:
        effect = "" if statistics.d_z is None else f", d_z = {statistics.d_z:+.2f}"
        lines.append(
            f"Paired t test over {n} seeds: p = {p_value(statistics.p)}{effect}; not corrected: chosen among several "
            "arms, a pair needs the correction that the matrix's report has."
        )
    if statistics.p_equivalent is not None:
        shown = "equivalent" if statistics.equivalent else "not shown to be equivalent"
        lines.append(f"Two one-sided tests, margin ±{found.margin:g}: p = {p_value(statistics.p_equivalent)}, {shown}.")
    return "\n".join(lines)


def _row_json(row: MetricRow) -> dict[str, Any]:
    difference = {"difference": row.difference, "low": row.low, "high": row.high}
    return {"a": vars(row.a), "b": vars(row.b), **difference}


def _texts(row: MetricRow) -> tuple[str, ...]:
    from ablations.cells import MISSING
    from ablations.reports.numbers import signed, spread

    if row.column in ("params", "epochs", "best_epoch"):  # whole numbers; an interval would say nothing of them
        means = [MISSING if mean is None else f"{mean:,.9g}" for mean in (row.a.mean, row.b.mean)]
        return row.column, *means, MISSING if row.difference is None else f"{row.difference:+,.9g}"
    decimals = 1 if row.column == "train_seconds" else 3
    shown = signed(row.difference, row.low, row.high, decimals)
    return row.column, spread(row.a, decimals), spread(row.b, decimals), shown
