"""Several matrices, on one data set or on several: run as one plan each, then every matrix reports for itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.overview import write_overview
from ablations.paper_table import paper_table, write_paper_table
from ablations.plan import Plan
from ablations.report_files import write_tables
from ablations.running import Finished, run_plan
from ablations.union import joins, make_union
from cluster.connection import Connection


@dataclass(frozen=True)
class Group:
    """The plans of several matrices on one data set, and the plan of their distinct cells.

    ``union`` is None for a single matrix, which is its own plan, and where every matrix stops cells early.
    """

    plans: Sequence[Plan]
    union: Plan | None

    def in_union(self, plan: Plan) -> bool:
        """Whether the union trains the plan's cells."""
        return self.union is not None and joins(plan, self.union)


@dataclass(frozen=True)
class FinishedGroup:
    """The matrices of one data set after their run; after an interruption only the union has finished."""

    group: Group
    union: Finished | None
    matrices: Sequence[Finished]
    summary: Path | None

    @property
    def interrupted(self) -> str | None:
        """The signal that ended it, if one did."""
        ended = [one.outcome.interrupted for one in (self.union, *self.matrices) if one and one.outcome]
        return next(filter(None, ended), None)

    @property
    def exit_code(self) -> int:
        """As of a single matrix: the code of a signal, else 1 when a cell has no result."""
        codes = [one.exit_code for one in (self.union, *self.matrices) if one is not None]
        return max(codes, default=0)


def make_group(name: str, plans: Sequence[Plan], out: Path) -> Group:
    """One data set's plans with their union, which ``name`` names."""
    return Group(plans, make_union(name, plans, out) if len(plans) > 1 else None)


def run_group(
    group: Group, connect: Callable[[], Connection], mlflow_out: Path | None, connection: Connection | None = None
) -> FinishedGroup:
    """Train every distinct cell once, then let each matrix report (searches run their own cells then).

    Everything that finished is kept after an interruption, and the same call goes on. Writes ``summary.md`` over all
    matrices into the union's folder.
    """
    union = None
    if group.union is not None:
        union = run_plan(group.union, connect, mlflow_out, connection, report_with=write_tables)
        if union.outcome is not None and union.outcome.interrupted:
            return FinishedGroup(group, union, [], None)
    finished: list[Finished] = []
    for plan in group.plans:
        train = not group.in_union(plan)  # a cell that has failed just now is not tried again in each matrix
        finished.append(run_plan(plan.refreshed(), connect, mlflow_out, connection, train=train))
        done = FinishedGroup(group, union, finished, None)
        if done.interrupted:
            return done
    summary = None
    if group.union is not None and union is not None:
        summary = write_overview(group.union.folder, union, finished)
    return FinishedGroup(group, union, finished, summary)


def write_table(groups: Sequence[FinishedGroup], out: Path) -> list[Path]:
    """The table over all data sets, in a folder named after the matrices; returns the files."""
    reports = [(one.plan.data.name, one.plan.matrix.name, one.report) for group in groups for one in group.matrices]
    folders = sorted(one.plan.folder.name for group in groups for one in group.matrices)
    short = hashlib.sha256(json.dumps(folders).encode()).hexdigest()[:6]
    names = list(dict.fromkeys(one.plan.matrix.slug for group in groups for one in group.matrices))
    name = names[0] if len(names) == 1 else "several"
    return write_paper_table(paper_table(reports), out.resolve() / f"{name}-{len(groups)}-data-sets-{short}")
