"""``altformer submit tune``: run a tuning plan as a job on a cluster that is elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from ablations.run_options import given_retries, given_seeds
from ablations.submit_command import AUTO, Asked, add_submission, submit
from ablations.tuning import command
from ablations.tuning.plan import TuningPlan, load_tuning
from altformer.data.config import DatasetConfig
from altformer.data.specs import SIMULATED, SPECS
from altformer.errors import unknown_name
from cluster.retries import Retries
from experiments.compose import HERE, PROFILES, compose, find_experiment, parse_setting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of ``altformer tune``, which the job is given, and a few of the submission's own."""
    command.add_arguments(parser)
    add_submission(parser)


def run(args: argparse.Namespace) -> int:
    """Check, upload, submit, follow; the exit code as of ``altformer submit``."""
    from ablations.job_project import name_there

    file = find_experiment(args.file)
    tuning, source = check(file, args)
    asked = Asked(
        command="tune",
        names=lambda upload: [name_there(file, HERE, upload)],
        files=[file],
        data=[path for path in (source.path, source.graph) if path is not None],
        title=tuning.name,
        dataset=AUTO if args.dataset == AUTO else source.name or "own-data",
        metadata={"plan": tuning.name},
    )
    return submit(asked, args)


def check(file: Path, args: argparse.Namespace) -> tuple[TuningPlan, DatasetConfig]:
    """The plan, and its data set, with the options of ``args``; UserError as ``altformer tune`` raises it.

    What the stages' arms become depends on the data and on the stages before: the job looks at that before it trains.
    """
    given_seeds(args)
    if args.profile not in ("auto", *PROFILES):
        raise unknown_name("profile", args.profile, ("auto", *PROFILES))
    given_retries(Retries(), args)
    settings = dict(map(parse_setting, args.set))
    dataset = None if args.dataset == AUTO else args.dataset
    if dataset is not None and dataset not in (SIMULATED, *SPECS):
        raise unknown_name("data set", dataset, [*SPECS, SIMULATED], "--dataset")
    for profile in PROFILES if args.profile == "auto" else [args.profile]:
        tuning = command.with_resources(load_tuning(file, profile, args.sampler), args)
        layer = tuning.settings_over(settings)
        config = compose(tuning.base_file, dataset=dataset, profile=profile, settings=layer)
    return tuning, config.dataset
