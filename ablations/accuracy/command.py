"""``altformer campaign``: an accuracy campaign, a slice of some minutes at a time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.accuracy.plan import AccuracyPlan, load_plan
from altformer.errors import UserError
from cluster.preflight import check_out
from experiments.cell import Machine
from experiments.dataset_choice import choose_device

if TYPE_CHECKING:
    from ablations.accuracy.steps import AccuracyCampaign

MORE = 3  # the exit code where the slice is over and there is more to do, as for any budget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="a campaign: a shipped one by name (gpu), or a path")
    parser.add_argument("--minutes", type=float, default=8.0, help="how long a slice is (default: 8)")
    parser.add_argument("--all", action="store_true", help="slice after slice, until nothing is left")
    parser.add_argument("--list", action="store_true", help="show the steps and how far they are; train nothing")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="write accuracy.md and LOG.md there; train nothing")
    parser.add_argument("--rehearse", action="store_true", help="every step and candidate, small, on simulated data")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="parent of everything written (default: runs)")


def run(args: argparse.Namespace) -> int:
    """Run a slice of the first campaign that is not done; 0 when all are, 3 when there is more, 1 on a failure."""
    from ablations.accuracy.overview import overview
    from ablations.accuracy.page import publish
    from ablations.accuracy.steps import AccuracyCampaign

    if not args.minutes > 0:
        raise UserError(f"--minutes must be above 0, got {args.minutes:g}")
    plans = [load_plan(name) for name in args.names]
    if len({plan.name for plan in plans}) < len(plans):
        raise UserError(f"campaigns need different names, got {', '.join(plan.name for plan in plans)}")
    reads = args.list or args.publish is not None
    campaigns = [
        AccuracyCampaign(plan, _machine(plan, args.rehearse, reads), args.out, args.rehearse) for plan in plans
    ]
    if not reads:
        check_out(args.out)
        return _run_slices(campaigns, args)
    if args.list:
        print("\n\n".join(map(overview, campaigns)))
    if args.publish is not None:
        for path in publish(campaigns, args.publish):
            print(f"written: {path}")
    return 0


def _run_slices(campaigns: list[AccuracyCampaign], args: argparse.Namespace) -> int:
    """One slice, or with ``--all`` as many as there are; the last one of a campaign writes its page."""
    from ablations.accuracy.overview import left_of, outcome
    from ablations.accuracy.page import publish
    from ablations.accuracy.slices import next_task, run_slice

    def unfinished() -> AccuracyCampaign | None:
        return next((one for one in campaigns if next_task(one.steps()) is not None), None)

    while (campaign := unfinished()) is not None:
        report = run_slice(campaign, args.minutes)
        print(f"This slice, {report.minutes:.1f} minutes:")
        for task, at in report.trained:
            print(f"  {task.label} seed {at.seed}: {outcome(at)}")
        steps = campaign.steps()
        print(f"{campaign.name}: left: {left_of(steps)}", flush=True)
        if next_task(steps) is None:
            print("\n".join(f"written: {path}" for path in publish([campaign], campaign.folder)))
        if report.failed:
            return 1
        if not args.all:
            break
    if unfinished() is not None:
        print("The same command goes on.")
        return MORE
    print("Nothing is left to train; --list shows the results, --publish DIR writes them down.")
    return 0


def _machine(plan: AccuracyPlan, rehearsal: bool, reads: bool) -> Machine:
    """Where the cells train; a campaign that is only read needs no GPU to be there."""
    device: str = "auto" if rehearsal else plan.machine.device
    if not (reads and device != "auto"):
        device = choose_device(device)
    return Machine("cuda" if device == "cuda" else "cpu", plan.machine.threads)
