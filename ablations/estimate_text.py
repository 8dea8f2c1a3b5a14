"""An estimate in words: a cell of each arm, the whole run, its disk, what fits into a budget, what seeds can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ablations.estimate import Estimate
from ablations.plan import Plan, PlannedCell
from cluster.budget import NO_BUDGET, Budget
from cluster.progress import duration

_SOURCES = {"record": "from records", "probe": "from a probe", "guess": "guessed from a similar model"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


def cell_time(estimate: Estimate | None, cells: Sequence[PlannedCell]) -> str:
    """The longest of an arm's cells to run, and where that comes from; ``-`` without any, ``?`` where it is unknown."""
    if estimate is None or not cells:
        return "-"
    known = [at.cell.hash for at in cells if at.cell.hash in estimate.seconds]
    if not known:
        return "?"
    longest = max(known, key=lambda key: estimate.seconds[key])
    return f"{duration(estimate.seconds[longest])} ({estimate.sources[longest]})"


def expectation_lines(estimate: Estimate, budget: Budget = NO_BUDGET) -> list[str]:
    """What the run takes: makespan, hours of slots or GPUs, disk; what fits into the budget; what could not be told."""
    lines = [f"Warning: arm {arm} could not be timed: {why}" for arm, why in estimate.problems.items()]
    if not estimate.to_run:
        return lines
    lines.append(_time_line(estimate))
    disk = f"{size(estimate.disk_bytes)} at most, {size(estimate.free_bytes)} free"
    short = estimate.disk_bytes > estimate.free_bytes
    lines.append(f"Warning: too little disk is free: {disk}" if short else f"Disk: {disk}")
    if limits := budget_words(budget):
        fitting = estimate.fits(budget)
        count = "cell to run fits" if len(estimate.to_run) == 1 else "cells to run fit"
        lines.append(f"Budget of {limits}: about {fitting} of {len(estimate.to_run)} {count}")
    return lines


def power_text(plan: Plan) -> str | None:
    """What the plan's seeds can show among its arms; None for a matrix that compares none with a baseline."""
    if plan.matrix.kind != "comparison" or plan.matrix.baseline is None:
        return None
    from ablations.looks import alpha_of  # scipy
    from ablations.power import power_line

    seeds = len({at.seed for at in plan.cells})
    return power_line(seeds, len(plan.arms) - 1, alpha_of(plan.matrix))


def budget_words(budget: Budget) -> str:
    """The limits, such as ``2 hours, 10 cells``; empty without any."""
    limits = ((budget.hours, "hour"), (budget.gpu_hours, "GPU-hour"), (budget.cells, "cell"))
    return ", ".join(f"{value:g} {unit}{'' if value == 1 else 's'}" for value, unit in limits if value is not None)


def hours(value: float) -> str:
    """Hours for people: two decimals below ten."""
    if 0 < value < 0.01:
        return "under 0.01"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def size(count: float) -> str:
    """Bytes for people, in powers of a thousand."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def _time_line(estimate: Estimate) -> str:
    unknown = [key for key in estimate.to_run if key not in estimate.seconds]
    if len(unknown) == len(estimate.to_run):
        return "Expected: unknown, as no record tells how long such a cell takes and none was timed"
    most = "at most about" if estimate.upper else "about"
    total = f"{hours(estimate.gpu_hours)} GPU-hours" if estimate.gpus else f"{hours(estimate.slot_hours)} slot-hours"
    missing = "cell" if len(unknown) == 1 else f"{len(unknown)} cells"
    without = f", without the {missing} that could not be timed" if unknown else ""
    told = [estimate.sources[key] for key in estimate.to_run if key in estimate.sources]
    kinds = Counter("record" if "record" in source else source for source in told)
    sources = ", ".join(f"{kinds[kind]} {word}" for kind, word in _SOURCES.items() if kinds[kind])
    until = f"{most} {duration(estimate.makespan_seconds)} until the last cell ends"
    return f"Expected: {until}, {total}{without} (cells: {sources})"
