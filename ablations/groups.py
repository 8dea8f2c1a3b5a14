"""Several matrices, on one data set or on several: run as one plan each, then every matrix reports for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablations.folders import short_id
from ablations.plan import Plan
from ablations.reports.files import write_tables
from ablations.reports.overview import write_overview
from ablations.reports.paper_table import paper_table, write_paper_table
from ablations.running import BUDGET_CODE, Finished, cannot_write, run_plan
from ablations.tracking import attach
from ablations.union import joins, make_union
from cluster.budget import NO_BUDGET, NOTHING, Budget, Spent
from cluster.connection import Connection
from cluster.work import Outcome


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
    """The matrices of one data set after their run; after an interruption only the union has finished.

    ``problem`` says why the page over them could not be written.
    """

    group: Group
    union: Finished | None
    matrices: Sequence[Finished]
    summary: Path | None = None
    problem: str | None = None

    @property
    def interrupted(self) -> str | None:
        """The signal that ended it, if one did."""
        return next(filter(None, (outcome.interrupted for outcome in self.outcomes)), None)

    @property
    def halted(self) -> bool:
        """Whether going on was pointless."""
        return any(outcome.halted for outcome in self.outcomes)

    @property
    def cluster_lost(self) -> bool:
        """Whether Ray must not be used any more in this process."""
        return any(outcome.cluster_lost for outcome in self.outcomes)

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """What ran."""
        return [one.outcome for one in (self.union, *self.matrices) if one and one.outcome]

    @property
    def spent(self) -> Spent:
        """What it has cost."""
        return sum((outcome.spent for outcome in self.outcomes), NOTHING)

    @property
    def budget(self) -> str | None:
        """The limit that ended it, if one did."""
        return next((outcome.budget for outcome in self.outcomes if outcome.budget and outcome.left), None)

    @property
    def exit_code(self) -> int:
        """As of a single matrix: the code of a signal, else 3 after a budget, else 1 when a cell has no result."""
        codes = [one.exit_code for one in (self.union, *self.matrices) if one is not None]
        if self.budget and not self.interrupted and not self.halted:
            return BUDGET_CODE
        return max([*codes, 1 if self.problem else 0])


def make_group(name: str, plans: Sequence[Plan], out: Path) -> Group:
    """One data set's plans with their union, which ``name`` names."""
    return Group(plans, make_union(name, plans, out) if len(plans) > 1 else None)


def run_group(
    group: Group,
    connect: Callable[[], Connection],
    mlflow_out: Path | None,
    budget: Budget = NO_BUDGET,
) -> FinishedGroup:
    """Train every distinct cell once, then let each matrix report (searches run their own cells then).

    The ``budget`` is of all matrices together; when it is spent each still reports on the cells it has, and likewise
    when going on has become pointless. Everything that finished is kept after an interruption, and the same call goes
    on. Writes ``summary.md`` over all matrices into the union's folder.
    """
    union = None
    if group.union is not None:
        union = run_plan(group.union, connect, mlflow_out, budget=budget, report_with=write_tables)
    done = FinishedGroup(group, union, [])
    if done.interrupted:
        return done
    failed = {at.cell.hash: at.record for at in union.plan.cells if at.has_failed and at.record} if union else {}
    for plan in group.plans:
        # a cell that has failed just now is not tried again in each matrix
        train = not group.in_union(plan) and not done.halted
        left = budget.after(done.spent)
        one = run_plan(plan.refreshed(failed), connect, mlflow_out, train=train, budget=left)
        done = replace(done, matrices=[*done.matrices, one])
        if done.interrupted:
            return done
    return done if group.union is None else _with_overview(group.union, done, mlflow_out)


def _with_overview(plan: Plan, done: FinishedGroup, mlflow_out: Path | None) -> FinishedGroup:
    """Write the page over all matrices beside the union's cells, and log it."""
    assert done.union is not None
    summary = plan.folder / "summary.md"
    before = _text(summary)
    try:
        write_overview(plan.folder, done.union, done.matrices)
    except OSError as error:
        return replace(done, problem=cannot_write(plan.folder, error))
    if mlflow_out is not None and _text(summary) != before:  # written only now, after the union's own log
        attach(plan, mlflow_out, [(summary, "")])
    return replace(done, summary=summary)


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def write_table(groups: Sequence[FinishedGroup], out: Path) -> list[Path]:
    """The table over all data sets, in a folder named after the matrices; returns the files."""
    reports = [(one.plan.data.name, one.plan.matrix.name, one.report) for group in groups for one in group.matrices]
    folders = sorted(one.plan.folder.name for group in groups for one in group.matrices)
    short = short_id(folders)
    names = list(dict.fromkeys(one.plan.matrix.slug for group in groups for one in group.matrices))
    name = names[0] if len(names) == 1 else "several"
    return write_paper_table(paper_table(reports), out.resolve() / f"{name}-{len(groups)}-data-sets-{short}")
