"""Stands in for Ray's JobSubmissionClient: jobs that are what a test says they are, and a log that it writes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any


def details(job_id: str = "depth-METR-LA-20260131-173000", status: str = "RUNNING", **given: Any) -> SimpleNamespace:
    """As Ray describes a job."""
    values = {
        "submission_id": job_id,
        "status": status,
        "entrypoint": "exec python -m experiments.cli ablate depth",
        "message": None,
        "start_time": 1_769_880_600_000,
        "end_time": None,
        "driver_exit_code": None,
        "metadata": {},
        "runtime_env": {"env_vars": {"PLANTED": "planted-secret"}},
    }
    return SimpleNamespace(**{**values, **given})


class FakeClient:
    """`tails` are what the log sends in each connection, an exception standing for its loss; after the last of them
    the job has the status `ends`.
    """

    def __init__(
        self,
        *jobs: SimpleNamespace,
        tails: Sequence[Sequence[str | Exception]] = (),
        ends: SimpleNamespace | None = None,
    ) -> None:
        self.jobs = {str(job.submission_id): job for job in jobs}
        self.tails, self.ends = [list(tail) for tail in tails], ends
        self.submitted: list[dict[str, Any]] = []
        self.asked_to_stop = 0
        self.whole_log = ""
        self.fails: list[Exception] = []  # raised by the next questions

    def list_jobs(self) -> list[SimpleNamespace]:
        return [*self.jobs.values(), details(None)]  # type: ignore[arg-type]  # a driver that just connected

    def get_job_info(self, job_id: str) -> SimpleNamespace:
        if self.fails:
            raise self.fails.pop(0)
        return self.jobs[job_id]

    def get_job_logs(self, job_id: str) -> str:
        return self.whole_log

    def submit_job(self, **given: Any) -> str:
        self.submitted.append(given)
        self.jobs[given["submission_id"]] = details(given["submission_id"], entrypoint=given["entrypoint"])
        return str(given["submission_id"])

    def stop_job(self, job_id: str) -> bool:
        self.asked_to_stop += 1
        if self.ends is not None and self.asked_to_stop > 1:
            self.jobs[job_id] = self.ends
        return self.asked_to_stop > 1  # the first time it is still being set up

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for text in self.tails.pop(0) if self.tails else []:
            if isinstance(text, Exception):
                raise text
            yield text
        if not self.tails and self.ends is not None:
            self.jobs[job_id] = self.ends


def wait_for(true: Any, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.01)
