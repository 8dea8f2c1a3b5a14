"""``altformer stop``: end a job on a cluster; its running cells leave with a checkpoint."""

from __future__ import annotations

import argparse
import sys

from experiments.logs_command import add_job, find_jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_job(parser)


def run(args: argparse.Namespace) -> int:
    """Stop the job and wait until it has left; 0 when it is over, 1 when it still runs after all."""
    jobs = find_jobs(args.address)
    job = jobs.find(args.job)
    if job.is_over:
        print(f"{job} (it was over before)")
        return 0
    print(f"Stopping {job.id}: its running cells leave with a checkpoint", flush=True)
    try:
        job = jobs.stop(job.id)
    except KeyboardInterrupt:
        print(f"\n{job.id} has been asked to stop, and leaves without being waited for", file=sys.stderr)
        return 130
    if not job.is_over:
        print(f"altformer: {job.id} has been asked to stop and is still {job.status}", file=sys.stderr)
        return 1
    print(job)
    return 0
