"""The log of a job as it grows, until the job is over; also over a connection that comes and goes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from cluster.errors import ClusterError
from cluster.jobs import Job, Jobs

IDLE_SECONDS = 15.0  # without a line: is the job over, is the cluster there?
AGAIN_SECONDS = 3.0
PATIENCE_SECONDS = 300.0  # for a cluster that does not answer any more


def follow(jobs: Jobs, job_id: str, write: Callable[[str], None], notice: Callable[[str], None]) -> Job:
    """Write what a job has printed and prints, from its beginning until it is over; the job then.

    `notice` is told in a sentence that the cluster does not answer, which is tried again for some minutes; then
    ClusterError. The caller may leave at any time, by an exception in the main thread: the job goes on.
    """
    written = 0  # characters of the log, which Ray sends from its beginning after every interruption
    lost: float | None = None

    def print_more(text: str, seen: int) -> int:
        nonlocal written
        if fresh := text[max(written - seen, 0) :]:
            write(fresh)
            written += len(fresh)
        return seen + len(text)

    while True:
        _read(jobs, job_id, print_more)
        try:
            job = jobs.job(job_id)
            print_more(jobs.log(job_id), 0)  # also where a proxy lets nothing through that stays open
            if job.is_over:
                return job
            lost = None
        except ClusterError:
            if lost is None:
                again = f"the job goes on, and is looked for again for {PATIENCE_SECONDS / 60:.0f} minutes"
                notice(f"{jobs.address} does not answer any more; {again}")
            lost = lost or time.monotonic()
            if time.monotonic() - lost > PATIENCE_SECONDS:
                raise
        time.sleep(AGAIN_SECONDS)


def _read(jobs: Jobs, job_id: str, print_more: Callable[[str, int], int]) -> None:
    """Print the log until its end or until it is lost: a connection can be dead without either side being told."""
    chunks = _tail(jobs, job_id)
    seen = 0
    while True:
        try:
            chunk = chunks.get(timeout=IDLE_SECONDS)
        except Empty:
            try:
                if jobs.job(job_id).is_over:
                    return
            except ClusterError:
                return
            continue
        if chunk is None:
            return
        seen = print_more(chunk, seen)


def _tail(jobs: Jobs, job_id: str) -> SimpleQueue[str | None]:
    """The pieces of the log as they come, then None; read in a thread, so that a signal is never held up."""
    chunks: SimpleQueue[str | None] = SimpleQueue()

    async def read() -> None:
        async for text in jobs.client.tail_job_logs(job_id):
            chunks.put(str(text))

    def run() -> None:
        try:
            asyncio.run(read())
        except Exception:  # whatever it was: the caller asks the cluster how the job is
            pass
        finally:
            chunks.put(None)

    threading.Thread(target=run, daemon=True, name="job log").start()
    return chunks
