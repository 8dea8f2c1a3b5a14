"""What `altformer ablate` says before and after a matrix."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.plan import Plan
from ablations.run import Finished
from experiments.provenance import versions

QUICK = "Profile quick: sized for a CPU; its numbers are not comparable with published ones."


def print_plan(plan: Plan, slots: int) -> None:
    """The cells, what is settled of them, and what runs at once."""
    rows, sensors = plan.data.values.shape
    print(f"{plan.matrix.title or plan.matrix.name} on {plan.data.name} ({rows} rows x {sensors} sensors)")
    if plan.profile == "quick":
        print(QUICK)
    table = _table("arm", "parameters", "settled", "to run", "cells")
    for arm in plan.arms:
        cells = [at for at in plan.cells if at.arm == arm.name]
        settled = sum(map(plan.settled, cells))
        name = arm.name + (" (baseline)" if arm.is_baseline else "")
        hashes = " ".join(at.cell.hash[:8] for at in cells)
        table.add_row(Text(name), f"{plan.params[arm.name]:,}", str(settled), str(len(cells) - settled), Text(hashes))
    Console().print(table)
    for version in sorted(_other_torch_versions(plan)):
        print(f"Warning: some settled cells were trained with torch {version}; this is {versions()['torch']}.")
    machine = plan.cells[0].cell.machine
    print(
        f"{len(plan.cells)} cells, {len(plan.to_run)} to run, {slots} at once "
        f"({machine.workers} worker(s) x {machine.threads} thread(s) on {machine.device}); "
        f"scheduler {plan.matrix.scheduler.type}\nResults: {plan.folder}",
        flush=True,
    )


def print_result(finished: Finished) -> None:
    """The outcome, the table of arms, and where the rest is."""
    plan, report, outcome = finished.plan, finished.report, finished.outcome
    counts = Counter(at.record["status"] if at.record else "not run" for at in plan.cells)
    table = _table("arm", "n", "test MAE", "vs baseline", "verdict")
    for arm in report.arms:
        summary = arm.metrics.get(report.reported)
        mean = "-" if summary is None or summary.mean is None else f"{summary.mean:.3f}"
        spread = "" if summary is None or summary.std is None else f" ± {summary.std:.3f}"
        against = arm.comparison
        difference = "-" if against is None or against.difference is None else f"{against.difference:+.3f}"
        table.add_row(Text(arm.name), f"{arm.done}/{arm.planned}", mean + spread, difference, Text(arm.verdict))
    print(f"\n{report.title}")
    if report.marker:
        print(report.marker)
    Console().print(table)
    print(report.summary)
    print("Cells: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    print(f"Report: {plan.folder / 'report.md'}")
    print("Compare the runs in MLflow: make mlflow-ui (or: altformer mlflow-ui)")
    if outcome is not None and outcome.interrupted:
        print(f"Interrupted ({outcome.interrupted}): finished cells are kept; the same command goes on.")


def _other_torch_versions(plan: Plan) -> set[str]:
    """torch versions of settled cells other than the one in use, which may give other bits."""
    used = {at.record["provenance"]["versions"]["torch"] for at in plan.cells if at.record and plan.settled(at)}
    return used - {versions()["torch"]}


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)
