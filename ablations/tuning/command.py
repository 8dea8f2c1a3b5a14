"""``altformer tune``: run a tuning plan, stage by stage, with its gates decided on validation."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ablations.run_options import (
    add_run_options,
    given_resources,
    given_retries,
    given_seeds,
    mlflow_out,
)
from ablations.surroundings import (
    check_before_training,
    lender,
    settle,
    slots,
)
from ablations.tuning.plan import SAMPLERS, TuningPlan, load_tuning
from altformer.errors import UserError, unknown_name
from cluster.errors import RayGoneError
from cluster.resources import Resources
from experiments.compose import PROFILES, compose, find_experiment, parse_setting
from experiments.dataset_choice import choose_dataset
from experiments.mistakes import rule_of, shortened

if TYPE_CHECKING:
    from ablations.matrix import Matrix
    from ablations.plan import Plan
    from ablations.running import Finished
    from ablations.tuning.campaign import Campaign


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", nargs="?", default="tuning", help="tuning plan: a path, or the shipped one (tuning)")
    parser.add_argument("--sampler", choices=SAMPLERS, help="how to search: grid, or tpe (Optuna); default: the plan's")
    parser.add_argument("--dataset", help="data set (default: the base experiment's); auto: METR-LA, else simulated")
    parser.add_argument("--seeds", type=int, help="seeds 0..N-1 of every arm (default: each stage's)")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="set a field in every stage")
    add_run_options(parser, "plan")
    parser.add_argument("--dry-run", action="store_true", help="print stages, gates and the first cells; run nothing")


def run(args: argparse.Namespace) -> int:
    """Run the campaign; exit code 0 done, 1 a cell failed, 2 bad configuration, 130 / 143 interrupted."""
    from ablations.tuning.ledger import Ledger
    from ablations.tuning.outcome import DECISIONS
    from ablations.tuning.preview import check_stages, print_preview
    from ablations.tuning.run import run_campaign
    from experiments.signals import sigterm_raises

    with ExitStack() as stack:
        session = Session(args, stack)
        campaign = session.campaign()
        check_stages(campaign)
        if args.dry_run:
            print_preview(campaign, session.slots())
            return 0
        session.check(campaign)
        stack.enter_context(sigterm_raises())  # while Ray runs cells it has its own way to end them
        code = run_campaign(campaign, session.run_plan)
        if session.ray_gone:
            raise RayGoneError(code)
    print(f"\nReport: {campaign.folder / 'report.md'}\nDecisions: {campaign.folder / DECISIONS}")
    for ledger in Ledger(campaign.out.resolve(), campaign.folder.name).files:
        print(
            f"Test sets read: {ledger}; publish it beside the first number of this campaign that you publish (in "
            f"AltFormer's repository as experiments/results/{ledger.name})."
        )
    return code


class Session:
    """One connection to Ray for the whole campaign, made when the first cell needs it, and what runs a plan on it."""

    def __init__(self, args: argparse.Namespace, stack: ExitStack) -> None:
        self._args = args
        self.ray_gone = False  # the cluster is lost, and Ray must not be used any more
        self._ray = stack.enter_context(lender(args.address))

    def campaign(self) -> Campaign:
        """What the command line asks for, with data set, device and profile settled."""
        from ablations.tuning.campaign import Campaign
        from altformer.data.datasets import load

        args = self._args
        seeds, dataset = given_seeds(args), None
        if args.dataset:
            dataset, sentence = choose_dataset(args.dataset)
            print(sentence, flush=True)
        file = find_experiment(args.file)
        written = with_resources(load_tuning(file, "full"), args)
        machine, profile = settle(written.resources, args.profile, self._ray.standing)
        if profile not in PROFILES:
            raise unknown_name("profile", profile, ("auto", *PROFILES))
        self._tuning = with_resources(load_tuning(file, profile, args.sampler), args)
        settings = dict(map(parse_setting, args.set))
        layer = self._tuning.settings_over(settings)
        source = compose(self._tuning.base_file, dataset=dataset, profile=profile, settings=layer).dataset
        return Campaign(self._tuning, load(source), machine, dataset, profile, settings, seeds, args.out)

    def slots(self) -> int:
        """Trials at once."""
        return slots(self._tuning.resources, self._ray.standing)

    def check(self, campaign: Campaign) -> None:
        """Whether the campaign can be run and written here; before its ledger says that it is."""
        self.slots()
        check_before_training([campaign.data], campaign.out, self._ray.standing, self._tuning.resources)

    def run_plan(self, plan: Plan) -> Finished:
        """Run what is left of a plan, connecting first where nothing is connected yet, and say how it ended."""
        from ablations.changed import refuse_changed
        from ablations.running import run_plan
        from ablations.terminal import print_plan, print_result

        plan = replace(plan, matrix=self._with_retries(plan.matrix))
        if self._args.strict:
            refuse_changed([plan])
        print_plan(plan, self.slots())
        if plan.to_run:
            self._ray.stay()
        finished = run_plan(plan, self._ray, mlflow_out(self._args))
        print_result(finished)
        self.ray_gone = finished.outcome is not None and finished.outcome.cluster_lost
        return finished

    def _with_retries(self, matrix: Matrix) -> Matrix:
        return matrix.model_copy(update={"retries": given_retries(matrix.retries, self._args)})


def with_resources(tuning: TuningPlan, args: argparse.Namespace) -> TuningPlan:
    """The plan with the resources given on the command line; UserError for what they may not be."""
    try:
        resources = Resources.model_validate(given_resources(tuning.resources, args))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(["resources", *map(str, first["loc"])])
        raise UserError(f"command line: {name}: {rule_of(first)}, got {shortened(first['input'])}") from None
    return tuning.with_resources(resources)
