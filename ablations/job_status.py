"""The jobs of a cluster, as ``altformer status --address`` shows them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.jobs import Job

STYLES = {"RUNNING": "bold", "SUCCEEDED": "green", "FAILED": "red", "STOPPED": "yellow", "PENDING": "dim"}


def print_jobs(address: str | None, name: str | None, as_json: bool) -> None:
    """One job (its id, or a beginning that only one has), or a line for each; ClusterError as ``find_jobs``."""
    from experiments.logs_command import find_jobs

    jobs = find_jobs(address)
    if name is not None:
        job = jobs.find(name)
        print(json.dumps(_content(job))) if as_json else _print_job(job)
        return
    found = jobs.all()
    if as_json:
        print(json.dumps([_content(job) for job in found]))
    elif found:
        _print_list(found)
    else:
        print(f"No job was submitted to {jobs.address} yet; `altformer submit ...` does it.")


def _print_job(job: Job) -> None:
    from cluster.progress import one_line

    print(one_line(str(job)))
    print(f"Began {_at(job.started)}; {'ran' if job.is_over else 'running'} for {_duration(job)}")
    print(f"Command: {one_line(job.command)}")
    if commit := job.metadata.get("commit"):
        print(f"Sources: commit {one_line(commit)}")
    if out := job.metadata.get("out"):
        print(f"Results: {one_line(out)} (there: altformer status --out {one_line(out)})")


def _print_list(found: list[Job]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cluster.progress import one_line

    table = Table(box=None, pad_edge=False)
    table.add_column("job", no_wrap=True)  # to be copied
    for title in ("state", "began", "duration", "exit code"):
        table.add_column(title, overflow="fold")
    for job in found:
        state = Text(job.status, style=STYLES.get(job.status, ""))
        code = "-" if job.exit_code is None else str(job.code)
        table.add_row(Text(one_line(job.id)), state, _at(job.started), _duration(job), code)
    Console().print(table)


def _at(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _duration(job: Job) -> str:
    from cluster.progress import duration

    if job.started is None:
        return "-"
    return duration(max((job.ended or time.time()) - job.started, 0.0))


def _content(job: Job) -> dict[str, Any]:
    """As scripts get it; times in seconds since 1970."""
    return {**asdict(job), "metadata": dict(job.metadata)}
