"""``altformer submit``: run matrices as a job on a cluster that is elsewhere, through Ray Jobs."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import command
from ablations.matrix import ALL, PACKAGE, Matrix, load_matrices, matrix_file, matrix_files
from ablations.run_options import given_budget, given_seeds, with_options
from altformer.data.config import DatasetConfig
from altformer.errors import UserError
from experiments.cli import COMMANDS
from experiments.compose import PROFILES, parse_setting
from experiments.dataset_choice import AT_HAND, choose_datasets, is_own
from experiments.logs_command import ADDRESS, attached_again, find_jobs, follow_job

if TYPE_CHECKING:
    from cluster.job_upload import Upload
    from cluster.jobs import Jobs

AUTO = "auto"  # like at-hand, a data set that only the cluster knows
NOT_SENT = "Ray writes what a job is sent into its logs; set it where the cluster's head is started"


@dataclass(frozen=True)
class Asked:
    """What a job is to run: ``altformer <command>`` with `names`, as they are called in what it takes along.

    `files` are those of matrices or of a plan, `data` the user's own data; the job's id begins with `title`, `dataset`.
    """

    command: str
    names: Callable[[Upload | None], Sequence[str]]
    files: Sequence[Path]
    data: Sequence[Path]
    title: str
    dataset: str
    metadata: Mapping[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: those of ``altformer ablate``, which the job is given, and a few of the submission's own."""
    command.add_arguments(parser)
    add_submission(parser)


def add_submission(parser: argparse.ArgumentParser) -> None:
    """Declare, beside the options of the command that the job is to run, what is another here."""
    for action in parser._actions:
        if action.dest == "address":
            action.metavar, action.help = "URL", ADDRESS
        elif action.dest == "out":
            action.help = "parent of everything written: an absolute path that every node sees (required)"
    parser.add_argument("--no-follow", action="store_true", help="return as soon as the job is submitted")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="an environment variable of the job, with its value here unless one is given; not for secrets",
    )
    parser.add_argument("--python", default="python", help="Python of the head node (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Check, upload, submit, follow; the job's exit code, 130 / 143 where the following is ended, 2 for a mistake."""
    from ablations.job_project import name_there

    def names(upload: Upload | None) -> list[str]:
        return [given if given == ALL else name_there(matrix_file(given), PACKAGE, upload) for given in args.files]

    matrices = load_matrices(args.files)
    dataset, data = _checked(matrices, args)
    asked = Asked(
        command="ablate",
        names=names,
        files=matrix_files(args.files),
        data=data,
        title=ALL if ALL in args.files else matrices[0].slug if len(matrices) == 1 else "several",
        dataset=dataset,
        metadata={"matrix": ", ".join(matrix.name for matrix in matrices)},
    )
    return submit(asked, args)


def submit(asked: Asked, args: argparse.Namespace) -> int:
    """Upload what a job needs, submit it and, unless told otherwise, follow it; the exit code as of ``run``."""
    from ablations.job_project import check_taken_along, project_of
    from altformer.data.datasets import data_dir
    from cluster.job_upload import look_at
    from experiments.provenance import SUBMITTED_COMMIT

    out = _shared_out(args.out)
    environment = _given_environment(args)
    root = project_of(asked.files)
    upload = None if root is None else look_at(root, [out, data_dir().absolute()])
    if upload is not None:
        check_taken_along(asked.files, asked.data, upload)
    job_command = entrypoint(args, asked.command, asked.names(upload))
    jobs = find_jobs(args.address)
    job_id = job_id_of(asked.title, asked.dataset, time.localtime())
    print(f"Cluster: {jobs.address}\n{_taken_along(upload)}", flush=True)
    metadata = {**asked.metadata, "out": str(out)}
    if commit := _commit(upload):
        metadata["commit"] = environment[SUBMITTED_COMMIT] = commit
    try:
        jobs.submit(job_id, job_command, environment, upload, metadata)
    except KeyboardInterrupt:
        print(f"\naltformer: interrupted while it submitted; {_see(jobs, job_id)} says whether it did", file=sys.stderr)
        return 130
    print(f"Submitted: {job_id}", flush=True)
    if args.no_follow:
        print(attached_again(jobs, job_id))
        return 0
    return follow_job(jobs, job_id)


def entrypoint(args: argparse.Namespace, run: str, names: Sequence[str]) -> str:
    """The job's command line: the command ``run`` with the options given here, from the uploaded sources.

    A module that is run lies in the current folder first, so these win over an installed package. `exec` leaves no
    shell between Ray and the command, whose signals and exit code it would have to hand on.
    """
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(COMMANDS[run][0]).add_arguments(parser)
    options = ["--address=auto", f"--out={args.out}"]
    for action in parser._actions:
        value = getattr(args, action.dest)
        if not action.option_strings or action.dest in ("address", "out") or value == action.default:
            continue
        name = action.option_strings[-1]
        if action.nargs == 0:
            options.append(name)
        else:
            options += [f"{name}={one}" for one in (value if isinstance(value, list) else [value])]
    return "exec " + shlex.join([args.python, "-m", "experiments.cli", run, *names, *options])


def _shared_out(out: Path) -> Path:
    """``--out`` as it is on the cluster; UserError unless it is absolute."""
    if not out.is_absolute():
        raise UserError(
            f"--out must be an absolute path on storage that every node of the cluster sees, got '{out}': a job's own "
            "folder is removed after it"
        )
    return out


def _given_environment(args: argparse.Namespace) -> dict[str, str]:
    """The variables of ``--env``, MLflow's address and Ray's authentication; UserError for a secret or no name."""
    from cluster.connection import authenticate
    from cluster.redaction import is_secret_name, redact
    from cluster.tracking.location import resolve

    authenticate(create_token=False)
    given = {"RAY_AUTH_MODE": mode} if (mode := os.environ.get("RAY_AUTH_MODE")) else {}
    if os.environ.get("MLFLOW_TRACKING_URI", "").strip() and not args.no_mlflow:
        location = resolve(args.out)
        given["MLFLOW_TRACKING_URI"] = location.uri
        if location.shown != location.uri:
            raise UserError(f"MLFLOW_TRACKING_URI={location.shown} holds a password, and {NOT_SENT}, or --no-mlflow")
    for text in args.env:
        name, is_given, value = text.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"--env takes NAME=VALUE or NAME, got '{redact(text)}'")
        if not is_given and name not in os.environ:
            raise UserError(f"--env {name}: the variable is not set here; give its value, --env {name}=VALUE")
        given[name] = value if is_given else os.environ[name]
        if is_secret_name(name) or redact(given[name], {}) != given[name]:
            raise UserError(f"--env {name} looks like a secret, and {NOT_SENT}")
    return given


def job_id_of(name: str, dataset: str, at: time.struct_time) -> str:
    """A readable id, as ``depth-METR-LA-20260131-173000``."""
    return f"{name}-{re.sub(r'[^A-Za-z0-9_-]+', '-', dataset)[:40]}-{time.strftime('%Y%m%d-%H%M%S', at)}"


def _checked(matrices: Sequence[Matrix], args: argparse.Namespace) -> tuple[str, Sequence[Path]]:
    """The name of the data set, for people, and the user's own data files, with every arm resolved.

    What can be known to be wrong without the cluster's machines and data is a UserError, as ``altformer ablate`` raises
    it. With the profile ``auto`` the arms must be right in every profile.
    """
    from ablations.arms import expand
    from ablations.planning import configurations

    given_budget(args)
    given_seeds(args)
    settings = dict(map(parse_setting, args.set))
    datasets = _datasets(args.dataset)
    found: list[DatasetConfig] = []
    for written in matrices:
        matrix = with_options(written, args)
        for profile in PROFILES if args.profile == "auto" else [args.profile]:
            settled = matrix.of(profile)
            for dataset in datasets:
                configs = configurations(settled, expand(settled), dataset, profile, settings)
                found.append(next(iter(configs.values())).dataset)  # no arm has one of its own
    names = {one.name or "own-data" for one in found} if args.dataset not in (AUTO, AT_HAND) else {args.dataset}
    files = dict.fromkeys(path for one in found for path in (one.path, one.graph) if path is not None)
    return names.pop() if len(names) == 1 else "several", tuple(files)


def _datasets(text: str | None) -> list[str | None]:
    """The data sets that can be named here; None stands for the base experiment's own."""
    if text is None:
        return [None]
    names = [name.strip() for name in text.split(",")]
    known = [name for name in names if name not in (AUTO, AT_HAND)]
    if own := next(filter(is_own, known), None):
        raise UserError(f"--dataset {own}: a job gets a data set of your own by its matrix: write `base: {own}` there")
    chosen: list[str | None] = [name for name, _ in choose_datasets(",".join(known))] if known else []
    return chosen if len(known) == len(names) else [None, *chosen]


def _commit(upload: Upload | None) -> str | None:
    """The commit of our sources where they go along: what arrives is no checkout any more."""
    from experiments.provenance import commit_text, git_state

    ours = upload is not None and upload.holds(PACKAGE / "__init__.py")
    return commit_text(git_state()) if ours else None


def _taken_along(upload: Upload | None) -> str:
    if upload is None:
        return "Sources: those that are installed on the cluster"
    ours = (upload.root / "altformer" / "__init__.py").is_file()
    return f"Uploading {upload}" + ("" if ours else "; altformer itself is the one that is installed on the cluster")


def _see(jobs: Jobs, job_id: str) -> str:
    return f"`altformer status {job_id} --address {shlex.quote(jobs.address)}`"
