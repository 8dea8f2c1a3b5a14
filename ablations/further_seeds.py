"""Adding seeds to a comparison that has been looked at: which arms get them, and what the report must say of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ablations.early_stopping import Futility
from ablations.folders import known_plan
from ablations.looks import UNDECIDED
from ablations.plan import Plan
from ablations.reports.data import build_report
from ablations.reports.facts import RunInfo
from altformer.errors import UserError

STOPPED = "stopped"


def with_look(plan: Plan) -> Plan:
    """The plan with a look at its number of seeds, if it is a comparison with every cell settled.

    A report on the same number of seeds again is no new look.
    """
    return plan if plan.to_run else replace(plan, looks=looks_of(plan))


def looks_of(plan: Plan) -> tuple[int, ...]:
    """The numbers of seeds at each look at the report, the one at hand last, whether its cells are settled or not."""
    if plan.matrix.kind != "comparison":
        return ()
    return tuple(sorted({*plan.looks, 1 + max(at.seed for at in plan.cells)}))


def verdicts(plan: Plan, seeds: int) -> dict[str, str]:
    """What the report on the first ``seeds`` seeds said of each arm but the baseline.

    Better, worse, equivalent, no difference shown, not enough seeds, or stopped by the scheduler.
    """
    results = [at.result for at in plan.cells if at.seed < seeds]
    report = build_report(plan.matrix, plan.arms, results, RunInfo(plan.data.name, plan.profile, command=""))
    found = {}
    for arm in report.arms:
        if arm.is_baseline:
            continue
        verdict = arm.comparison.verdict if arm.comparison else UNDECIDED[-1]
        equivalent = arm.comparison is not None and arm.comparison.equivalent and verdict in UNDECIDED
        found[arm.name] = STOPPED if STOPPED in arm.statuses else "equivalent" if equivalent else verdict
    return found


def only_undecided(plan: Plan, seeds: int) -> Plan:
    """The plan without the seeds that arms decided at the last look would get, nor those of stopped arms.

    The last look is the latest on fewer than ``seeds`` seeds, so that the same call means the same arms while it runs
    and after. UserError where there was none.
    """
    name = f"matrix '{plan.matrix.name}' on {plan.data.name}"
    if plan.matrix.kind != "comparison" and known_plan(plan.folder):
        note = "A search has no verdicts, so --undecided gives none of its arms more seeds; --seeds alone does."
        fewer = {arm.name: _planned(plan, arm.name) for arm in plan.arms}
        return replace(_with_fewer(plan, fewer), notes=(*plan.notes, note))
    if not plan.looks:
        raise UserError(
            f"--undecided: there is no report on all cells of {name} yet; run it without --undecided first, then with "
            f"more --seeds (looked for it in {plan.folder})"
        )
    before = [look for look in plan.looks if look < seeds]
    if not before:
        raise UserError(
            f"--undecided: the report on {name} has {plan.looks[-1]} seeds, got --seeds {seeds}; ask for more"
        )
    found = verdicts(plan, max(before))
    decided = {arm: verdict for arm, verdict in found.items() if verdict not in UNDECIDED}
    fewer = {
        arm: _planned(plan, arm) if verdict == STOPPED else _settled(plan, arm) for arm, verdict in decided.items()
    }
    if not decided:
        return replace(plan, notes=(*plan.notes, f"No arm is decided at {max(before)} seeds, so all of them get more."))
    if len(decided) < len(found):
        return _noted(_with_fewer(plan, fewer))
    baseline = {arm.name: _settled(plan, arm.name) for arm in plan.arms if arm.is_baseline}
    note = f"No arm gets more seeds, since none is undecided at {max(before)}: {_listed(decided)}."
    return replace(_with_fewer(plan, {**fewer, **baseline}), notes=(*plan.notes, note))


def without_stopped(plan: Plan) -> Plan:
    """The plan without new seeds of arms that the futility rule has stopped: it would stop them again, at a cost."""
    if not isinstance(plan.matrix.scheduler, Futility):
        return _noted(plan)
    ended = [at for at in plan.cells if at.record and at.record["status"] == STOPPED and plan.settled(at)]
    return _noted(_with_fewer(plan, {at.arm: _planned(plan, at.arm) for at in ended}))


def _with_fewer(plan: Plan, fewer: Mapping[str, int]) -> Plan:
    """The plan in which some arms have only their first seeds, so many as said."""
    return replace(plan, cells=[at for at in plan.cells if at.seed < fewer.get(at.arm, at.seed + 1)])


def _settled(plan: Plan, arm: str) -> int:
    """How many seeds of an arm are settled, up to the first that is not."""
    settled = {at.seed for at in plan.cells if at.arm == arm and plan.settled(at)}
    return next(count for count in range(len(settled) + 1) if count not in settled)


def _planned(plan: Plan, arm: str) -> int:
    """How many seeds an arm has, with those of the plan that was being run: all of a stopped arm are stopped."""
    earlier = known_plan(plan.folder)
    seeds = earlier.seeds.get(arm, ()) if earlier else ()
    return max(_settled(plan, arm), 1 + max(seeds, default=-1))


def _noted(plan: Plan) -> Plan:
    """The plan with a note where its arms differ in their seeds: which have fewer, and what was known of them then."""
    counts = {arm.name: sum(at.arm == arm.name for at in plan.cells) for arm in plan.arms}
    most = max(counts.values())
    kept = []
    for count in sorted({count for count in counts.values() if count < most}):
        found = {arm: verdict for arm, verdict in verdicts(plan, count).items() if counts[arm] == count}
        kept.append(f"{_listed(found)} {'keeps' if len(found) == 1 else 'keep'} {count}")
    if not kept or plan.matrix.kind != "comparison":
        return plan
    full = ", ".join(arm.name for arm in plan.arms if counts[arm.name] == most)
    note = (
        f"Seeds were added only where an earlier look was undecided: up to {most} for {full}; {'; '.join(kept)}. Each "
        "arm is compared on the seeds that it shares with the baseline."
    )
    return replace(plan, notes=(*plan.notes, note))


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{arm} ({verdict})" for arm, verdict in found.items())
