"""A matrix before its cells are known: with ``tune_per_arm`` every arm is tuned first, in a plan of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ablations.arms import expand, spell
from ablations.candidates import TUNING_SEED, Tuned, candidates, choose_values, tuning_matrix
from ablations.further_seeds import only_undecided, without_stopped
from ablations.groups import Group
from ablations.matrix import Matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.reports.candidates import write_candidates
from ablations.reports.data import ReportData
from ablations.running import Finished, run_plan
from altformer.data.traffic import TrafficData
from cluster.budget import Budget
from cluster.connection import Connection
from experiments.cell import Machine


@dataclass(frozen=True)
class Draft:
    """A matrix on one data set. ``tuning`` is the plan of its candidates, None for a matrix that tunes nothing."""

    matrix: Matrix  # settled for the profile
    compare: Callable[[Tuned | None], Plan]
    tuning: Plan | None

    @property
    def is_tuned(self) -> bool:
        """Whether every candidate has a result, so that the cells of the comparison are known."""
        return self.tuning is None or not self.tuning.refreshed().to_run

    def choice(self) -> Tuned | None:
        """What the records on disk choose for each arm."""
        if self.tuning is None:
            return None
        cells = self.tuning.refreshed().cells
        results = {at.arm: at.result for at in cells}
        arms = [
            arm for arm in expand(self.matrix) if any(one.name in results for one in candidates(self.matrix, [arm]))
        ]
        return choose_values(self.matrix, arms, results)

    def chosen_text(self) -> str:
        """One line: the values that each arm gets."""
        choice = self.choice()
        chosen = {} if choice is None else choice.chosen
        return "; ".join(f"{arm} gets {spell(values, ', ')}" for arm, values in chosen.items())

    def plan(self) -> Plan:
        """The comparison, every arm with the values that were chosen for it."""
        return self.compare(self.choice())

    def provisional(self) -> Plan:
        """The comparison as large as it will be; which values its cells have is not known before ``is_tuned``."""
        plan = self.plan()
        early = plan.tuned.warnings if plan.tuned is not None else ()
        return replace(plan, notes=tuple(note for note in plan.notes if note not in early))


def make_draft(
    matrix: Matrix,
    data: TrafficData,
    machine: Machine,
    *,
    dataset: str | None,
    profile: str,
    settings: Mapping[str, Any],
    seeds: int,
    out: Path,
    undecided: bool = False,
) -> Draft:
    """A matrix on one data set as a command runs it: an earlier report is continued, not replaced by a smaller one.

    ``undecided``: seeds beyond those of the last look go to undecided arms only. UserError as ``make_plan`` and
    ``only_undecided``.
    """
    make = partial(make_plan, data=data, machine=machine, dataset=dataset, profile=profile, settings=settings, out=out)
    settled, first = matrix.of(profile), None
    if matrix.tune_per_arm:
        make(matrix, seeds=1)  # for its mistakes, in the names of its arms
        first = make(tuning_matrix(settled), seeds=1, first_seed=TUNING_SEED)

    def compare(chosen: Tuned | None) -> Plan:
        plan = make(matrix, seeds=seeds, keep_seeds=True, tuned=chosen)
        return only_undecided(plan, seeds) if undecided else without_stopped(plan)

    return Draft(settled, compare, first)


def both_phases(drafts: Sequence[Draft]) -> Group:
    """The plans of a data set's matrices of which some are to be tuned, in the order in which they run."""
    first = [draft.tuning for draft in drafts if draft.tuning is not None and not draft.is_tuned]
    return Group([*first, *(draft.provisional() for draft in drafts)], union=None)


def run_tuning(
    drafts: Sequence[Draft],
    connect: Callable[[], Connection],
    mlflow_out: Path | None,
    budget: Budget,
    expected: Mapping[str, float],
) -> Iterator[Finished]:
    """Train the candidates of each draft that is not tuned, matrix after matrix, and say what was chosen.

    Ends with the first one that a signal or the budget cut short. ``expected`` are the seconds of cells by hash.
    """
    for draft in drafts:
        if draft.tuning is None or draft.is_tuned:
            continue
        plan = replace(draft.tuning.refreshed(), expected=expected)
        report = partial(_report_candidates, draft)
        finished = run_plan(plan, connect, mlflow_out, budget=budget, report_with=report)
        yield finished
        if finished.is_cut_short:
            return
        if finished.outcome is not None:
            budget = budget.after(finished.outcome.spent)
        print(
            f"\n{finished.report.title}\n{draft.chosen_text()}\nCandidates: {plan.folder / 'report.md'}\n", flush=True
        )


def _report_candidates(draft: Draft, data: ReportData, folder: Path) -> Path:
    choice = draft.choice()
    assert choice is not None
    return write_candidates(choice, data, folder)
