"""``altformer logs``: what a job on a cluster has printed, and prints."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from experiments.signals import Terminated, sigterm_raises

if TYPE_CHECKING:
    from cluster.jobs import Jobs

ADDRESS = "dashboard of the cluster (default: $RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265)"
NOT_ENCRYPTED = (
    "Attention: {address} is not encrypted, and the access token and everything else can be read on the way; use a "
    "tunnel (`ssh -L 8265:127.0.0.1:8265 HEAD`, then --address http://127.0.0.1:8265) or an https:// address"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_job(parser)
    parser.add_argument("--follow", action="store_true", help="go on until the job is over; the exit code is the job's")


def run(args: argparse.Namespace) -> int:
    """Print the log; 0, or with ``--follow`` the job's own exit code (130 / 143: a signal has ended the following)."""
    jobs = find_jobs(args.address)
    job = jobs.find(args.job)
    if args.follow:
        return follow_job(jobs, job.id)
    print(jobs.log(job.id), end="")
    return 0


def add_job(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every command about one job."""
    parser.add_argument(
        "job",
        metavar="JOB",
        help="a job's id, or a beginning that only one has; of a matrix and its cells: `altformer status`",
    )
    parser.add_argument("--address", metavar="URL", help=ADDRESS)


def find_jobs(address: str | None) -> Jobs:
    """The jobs of a cluster; says on standard error, before anything is sent, where the way there is not encrypted."""
    from cluster.jobs import connect_jobs, is_open_to_listeners, jobs_address

    there = jobs_address(address)
    if is_open_to_listeners(there):
        print(NOT_ENCRYPTED.format(address=there), file=sys.stderr, flush=True)
    return connect_jobs(there)


def follow_job(jobs: Jobs, job_id: str) -> int:
    """Print the log until the job is over; its exit code.

    Ctrl-C and SIGTERM end only the following: 130 and 143, after how to attach again and how to stop the job.
    """
    from cluster.errors import ClusterError
    from cluster.job_following import follow

    try:
        with sigterm_raises():
            job = follow(jobs, job_id, _write, lambda text: print(f"Attention: {text}", file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print(f"\n{attached_again(jobs, job_id)}", flush=True)
        return 130
    except Terminated:
        print(attached_again(jobs, job_id), flush=True)
        return 143
    except ClusterError as error:
        raise ClusterError(f"{error}; the job goes on, with or without us") from None
    print(job)
    return job.code


def attached_again(jobs: Jobs, job_id: str) -> str:
    """That a job goes on, and the commands that attach to it and stop it."""
    there = shlex.join([job_id, "--address", jobs.address])
    return (
        f"{job_id} goes on without this terminal.\n"
        f"  altformer logs {there} --follow    # attach\n"
        f"  altformer stop {there}    # end it; running cells leave with a checkpoint"
    )


def _write(text: str) -> None:
    print(text, end="", flush=True)
