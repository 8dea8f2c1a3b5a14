"""What `altformer ablate` says on the terminal before and after a matrix."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.arm_results import metric_name
from ablations.arms import Arm
from ablations.cells import TABLE, done_runs, read_cells
from ablations.changed import few, reruns
from ablations.estimate import Estimate, epochs_done
from ablations.estimate_text import cell_time, expectation_lines, power_text
from ablations.groups import FinishedGroup, Group
from ablations.plan import Plan, PlannedCell
from ablations.reports.data import ReportData
from ablations.reports.numbers import signed, spread
from ablations.running import Finished, ended_early
from ablations.union import shared_cells, sharing
from cluster.budget import NO_BUDGET, Budget
from cluster.progress import counted, duration
from cluster.work import FaultKind
from experiments.programs import program
from experiments.provenance import versions
from experiments.runs import best_arm

_WHAT_WENT_WRONG: Mapping[FaultKind, str] = {
    "error": "an error",
    "died": "a process died",
    "node": "a node was lost",
    "memory": "out of memory",
    "disk": "disk full",
    "hang": "hung",
}
QUICK = "Profile quick: sized for a CPU; its numbers are not comparable with published ones."


def print_group(group: Group, slots: int, estimate: Estimate | None = None, budget: Budget = NO_BUDGET) -> None:
    """One matrix cell by cell, or several by their numbers of cells; then what the run is expected to take."""
    if len(group.plans) == 1:
        print_plan(group.plans[0], slots, estimate, budget)
    else:
        _print_matrices(group, slots, estimate, budget)


def print_finished(finished: FinishedGroup) -> None:
    """One matrix with its table, or several with a sentence each and the page over all of them."""
    if len(finished.group.plans) == 1:
        print_result(finished.matrices[0])
        return
    for one in finished.matrices:
        print(f"\n{one.report.title}\n{one.report.summary}")
        _print_claims(one.report)
        _print_report(one, "report.md")
    cells = {at.cell.hash: at for one in (finished.union, *finished.matrices) if one for at in one.plan.cells}
    print(f"\nCells: {_counts(cells.values())}")
    if finished.summary is not None:
        print(f"Summary of {len(finished.matrices)} matrices: {finished.summary}")
    elif finished.problem:
        print(f"Attention: {finished.problem}.")
    if finished.union is not None and finished.union.report.marker:
        print(finished.union.report.marker)
    for run in filter(None, (finished.union, *finished.matrices)):
        print_end(run)


def _print_matrices(group: Group, slots: int, estimate: Estimate | None, budget: Budget) -> None:
    """Matrices with their cells, which cells several of them share, what is to run, and what that takes."""
    first, found = group.plans[0], sharing(group.plans)
    rows, sensors = first.data.values.shape
    print(f"{len(group.plans)} matrices on {first.data.name} ({rows} rows x {sensors} sensors)")
    if first.profile == "quick":
        print(QUICK)
    shared = shared_cells(group.plans)
    table = _table("matrix", "arms", "cells", "done", "to run", "shared", "scheduler")
    for plan in group.plans:
        hashes = {at.cell.hash for at in plan.cells}
        counts = (len(plan.arms), len(plan.cells), len(plan.cells) - len(plan.to_run), len(plan.to_run))
        how = plan.matrix.scheduler.type + ("" if group.in_union(plan) else " (on its own)")
        table.add_row(Text(plan.matrix.name), *map(str, counts), str(len(hashes & shared.keys())), how)
    Console().print(table)
    for note in dict.fromkeys(note for plan in group.plans for note in plan.notes):
        print(f"Note: {note}")
    _print_changes(group.plans)
    _warn_of_other_torch(group.plans)
    for key, names in shared.items():
        print(f"{key[:8]} is one cell: {', '.join(names)}")
    to_run = {at.cell.hash for plan in group.plans for at in plan.to_run}
    where = f"\nResults: {group.union.folder}" if group.union is not None else ""
    print(
        f"{sum(len(plan.cells) for plan in group.plans)} cells, {len(found)} distinct, {len(shared)} shared, "
        f"{len(to_run)} to run, {slots} at once{where}"
    )
    _print_begun({at.cell.hash: at for plan in group.plans for at in plan.to_run}.values())
    _print_expectation(estimate, budget)
    powers: dict[str, list[str]] = {}
    for plan in group.plans:
        if text := power_text(plan):
            powers.setdefault(text, []).append(plan.matrix.name)
    for text, names in powers.items():
        print(f"Power ({', '.join(names)}): {text}", flush=True)


def print_plan(plan: Plan, slots: int, estimate: Estimate | None = None, budget: Budget = NO_BUDGET) -> None:
    """The cells, what is settled of them, what runs at once, and what the run is expected to take."""
    rows, sensors = plan.data.values.shape
    print(f"{plan.matrix.heading} on {plan.data.name} ({rows} rows x {sensors} sensors)")
    if plan.profile == "quick":
        print(QUICK)
    console, columns = Console(), ["arm", "parameters", "done", "to run", "a cell takes", "cells"]
    rows = [_arm_row(plan, arm, estimate) for arm in plan.arms]
    if estimate is None:
        rows, columns = [[*row[:4], row[5]] for row in rows], [*columns[:4], columns[5]]
    widths = [max(len(row[place]) for row in [columns, *rows]) + 2 for place in range(len(columns))]
    if sum(widths) - 2 > console.width:
        columns.pop()  # hashes cut short are of no use
    table = _table(*columns)
    for row in rows:
        table.add_row(*map(Text, row[: len(columns)]))
    console.print(table)
    for note in plan.notes:
        print(f"Note: {note}")
    _print_changes([plan])
    _warn_of_other_torch([plan])
    machine = plan.cells[0].cell.machine
    print(
        f"{counted(len(plan.cells), 'cell')}, {len(plan.to_run)} to run, {slots} at once "
        f"({machine.workers} worker(s) x {machine.threads} thread(s) on {machine.device}); "
        f"scheduler {plan.matrix.scheduler.type}\nResults: {plan.folder}"
    )
    _print_begun(plan.to_run)
    _print_expectation(estimate, budget)
    if text := power_text(plan):
        print(f"Power: {text}", flush=True)


def _print_begun(to_run: Iterable[PlannedCell]) -> None:
    """Which cells an earlier run has left unfinished, and the epoch that each goes on from."""
    begun = [f"{at.name} (epoch {epoch})" for at in to_run if (epoch := epochs_done(at.cell))]
    if begun:
        they = "1 goes" if len(begun) == 1 else f"{len(begun)} go"
        print(f"Of these {they} on from a checkpoint: {few(begun)}")


def _print_expectation(estimate: Estimate | None, budget: Budget) -> None:
    for line in expectation_lines(estimate, budget) if estimate is not None else ():
        print(line, flush=True)


def _arm_row(plan: Plan, arm: Arm, estimate: Estimate | None) -> list[str]:
    cells = [at for at in plan.cells if at.arm == arm.name]
    to_run = [at for at in cells if not plan.settled(at)]
    name = arm.name + (" (baseline)" if arm.is_baseline else "")
    hashes = " ".join(at.cell.hash[:8] for at in cells)
    counts = (str(len(cells) - len(to_run)), str(len(to_run)))
    return [name, f"{plan.params[arm.name]:,}", *counts, cell_time(estimate, to_run), hashes]


def print_result(finished: Finished) -> None:
    """The outcome, the table of arms, and where the rest is."""
    plan, report = finished.plan, finished.report
    table = _table("arm", "n", metric_name(report.reported), "vs baseline", "verdict")
    for arm in report.arms:
        mean = spread(arm.metrics[report.reported])
        difference = signed(arm.comparison.difference if arm.comparison else None)
        table.add_row(Text(arm.name), f"{arm.done}/{arm.planned}", mean, difference, Text(arm.verdict))
    print(f"\n{report.title}")
    if report.marker:
        print(report.marker)
    Console().print(table)
    print(report.summary)
    if report.looks and report.looks.caution:
        print(f"Note: {report.looks.caution}")
    _print_claims(report)
    print(f"Cells: {_counts(plan.cells)}")
    _print_failures(finished)
    _print_report(finished, "report.html", " (beside it: report.md, report.tex, cells.csv)")
    table_of_cells = plan.folder / TABLE
    if table_of_cells.is_file() and any(row["mlflow_run_id"] for row in read_cells(table_of_cells)):
        out = plan.cells[0].cell.folder.parents[1]
        print(f"Compare the runs in MLflow: {program('altformer')} mlflow-ui --out {shlex.quote(str(out))}")
    _print_best(plan)
    print_end(finished)


def _print_best(plan: Plan) -> None:
    """Once a matrix is at its end: how to forecast with the cell that `altformer promote` would choose."""
    if not plan.to_run and (whole := done_runs(at.result for at in plan.cells)):
        arm, run, _ = best_arm(whole, plan.matrix.objective)
        seed, out = run.record["seed"], shlex.quote(str(run.folder.parents[1]))
        command = f"{program('altformer')} predict --run {run.hash} --input readings.csv --out {out}"
        print(f"Forecast with the best by validation ({arm} seed {seed}): {command}")


def print_end(finished: Finished) -> None:
    """Attempts that were lost; what ended a run before its last cell, what is left of it, and how to go on."""
    outcome, left = finished.outcome, finished.plan.to_run
    if finished.lost:
        print(
            f"Attempts lost: {_lost_text(finished.lost)}. "
            "Each cell went on from its last checkpoint, or began anew without one."
        )
    if outcome is None or not (outcome.interrupted or outcome.budget or outcome.halted):
        return
    why = "Finished"
    if outcome.interrupted:
        why = f"Interrupted ({outcome.interrupted}): finished"
    elif not outcome.halted:
        why = f"The budget of {outcome.budget} is spent: finished"
    elif not outcome.cluster_lost:  # of which it is said already
        print(ended_early(outcome.halted))
    expected, ended = finished.plan.expected, outcome.ended
    known = [
        max(expected[key] - (ended[key].seconds if key in ended else 0.0), 0.0)
        for key in (at.cell.hash for at in left)
        if key in expected
    ]
    rest = f"{len(left)} {'cell is' if len(left) == 1 else 'cells are'} left"
    if left and len(known) == len(left):
        at_once = max(min(outcome.slots, len(left)), 1)
        rest += f", about {duration(sum(known) / at_once)}"
    print(f"{why} cells and checkpoints are kept and {rest}; the same command goes on.", flush=True)


def _lost_text(lost: Mapping[FaultKind, int]) -> str:
    """How many attempts were lost, by what ended them: ``3 (2 a process died, 1 a node was lost)``."""
    return f"{sum(lost.values())} ({', '.join(f'{count} {_WHAT_WENT_WRONG[kind]}' for kind, count in lost.items())})"


def _print_report(finished: Finished, name: str, beside: str = "") -> None:
    """Where the report is, or why it is not there."""
    if finished.problem:
        print(f"Attention: {finished.problem}.")
    else:
        print(f"Report: {finished.plan.folder / name}{beside}")


def _print_failures(finished: Finished) -> None:
    """The last words of cells that have failed, each with the cells it is true of."""
    alike: dict[str, list[str]] = {}
    for at in finished.plan.cells:
        if at.record is not None and at.has_failed:
            lines = (at.record["error"] or "").strip().splitlines() or ["failed without a word"]
            alike.setdefault(lines[-1], []).append(at.name)
    for why, names in alike.items():
        print(f"Failed: {few(names)}: {why}")


def _print_claims(report: ReportData) -> None:
    """Every claim of the matrix file with its verdict."""
    for claim in report.claims:
        print(f"Claim: {claim.text} [{claim.arm}]: {claim.verdict}")


def _counts(cells: Iterable[PlannedCell]) -> str:
    def status(at: PlannedCell) -> str:
        if at.record:
            return str(at.record["status"])
        return "interrupted" if epochs_done(at.cell) else "not run"

    counts = Counter(map(status, cells))
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _print_changes(plans: Iterable[Plan]) -> None:
    """Say which cells were done and run again, and what has changed since."""
    for rerun in dict.fromkeys(str(rerun) for plan in plans for rerun in reruns(plan)):
        print(f"Changed: {rerun}")


def _warn_of_other_torch(plans: Iterable[Plan]) -> None:
    """Name the torch versions of settled cells other than the one in use, which may give other bits."""
    settled = [at.record for plan in plans for at in plan.cells if at.record and plan.settled(at)]
    used = {str(record["provenance"]["versions"]["torch"]) for record in settled}
    for version in sorted(used - {versions()["torch"]}):
        print(f"Warning: some finished cells were trained with torch {version}; this is {versions()['torch']}.")


def _table(*columns: str) -> Table:
    """A plain table that breaks its texts rather than cut them where the terminal is narrow."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
