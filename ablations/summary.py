"""What `altformer ablate` says before and after a matrix."""

from __future__ import annotations

import sys
from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.plan import Plan
from ablations.report_data import ReportData
from cluster.resources import Resources
from cluster.work import Outcome

QUICK = "Profile quick: sized for a CPU; its numbers are not comparable with published ones."


def print_plan(plan: Plan, resources: Resources, slots: int) -> None:
    """The cells, what is settled of them, and what runs at once."""
    console = Console()
    data = plan.data
    rows, sensors = data.values.shape
    console.print(
        f"{plan.matrix.title or plan.matrix.name} on {data.name} ({rows} rows x {sensors} sensors)", markup=False
    )
    if plan.profile == "quick":
        console.print(QUICK)
    table = Table("arm", "seeds: settled / to run", "cells", box=None, pad_edge=False)
    for arm in plan.arms:
        cells = [at for at in plan.cells if at.arm == arm.name]
        settled = sum(map(plan.settled, cells))
        name = Text(arm.name + (" (baseline)" if arm.is_baseline else ""))
        table.add_row(name, f"{settled} / {len(cells) - settled}", Text(" ".join(at.cell.hash for at in cells)))
    console.print(table)
    machine = plan.cells[0].cell.machine
    console.print(
        f"{len(plan.cells)} cells, {len(plan.to_run)} to run, {slots} at once "
        f"({resources.workers} worker(s) x {machine.threads} thread(s) on {machine.device}); "
        f"scheduler {plan.matrix.scheduler.type}; results in {plan.folder}",
        markup=False,
        soft_wrap=True,
    )
    sys.stdout.flush()


def print_result(plan: Plan, report: ReportData, outcome: Outcome | None) -> None:
    """The outcome, the table of arms, and where the rest is."""
    console = Console()
    cells = plan.refreshed()
    counts = Counter(at.record["status"] if at.record else "not run" for at in cells)
    table = Table("arm", "n", "test MAE", "difference to baseline", "verdict", box=None, pad_edge=False)
    for arm in report.arms:
        summary = arm.metrics.get(report.reported)
        mean = "-" if summary is None or summary.mean is None else f"{summary.mean:.3f}"
        spread = "" if summary is None or summary.std is None else f" ± {summary.std:.3f}"
        against = arm.comparison
        difference = "-" if against is None or against.difference is None else f"{against.difference:+.3f}"
        table.add_row(Text(arm.name), f"{arm.done}/{arm.planned}", mean + spread, difference, Text(arm.verdict))
    console.print()
    console.print(report.title, markup=False)
    if report.marker:
        console.print(report.marker, markup=False)
    console.print(table)
    console.print(report.summary, markup=False)
    console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    console.print(f"Report: {plan.folder / 'report.md'}", markup=False, soft_wrap=True)
    console.print("Compare in MLflow: altformer mlflow-ui (or make mlflow-ui)")
    if outcome is not None and outcome.interrupted:
        console.print(f"Interrupted ({outcome.interrupted}): finished cells are kept; the same command goes on.")
