"""Jobs on a cluster that runs elsewhere, through Ray Jobs: its dashboard takes a command and the files for it.

Ray writes what a job is sent (its command, its environment) into its own logs, readable by everyone with the cluster's
access token. So nothing secret may be in it.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from cluster.connection import authenticate, listens
from cluster.environment import QUIET, variables
from cluster.errors import ClusterError
from cluster.job_upload import Upload
from cluster.listening import address_of, in_address, is_loopback
from cluster.redaction import redact

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
STOP_SECONDS = 60  # for a job to leave with its checkpoints, then Ray kills it

# For the job's command and, through it, for every process of ours on the cluster.
ENVIRONMENT = {
    **QUIET,
    # Read by the job's supervisor, a Ray process whose environment this is too. Ray's own: SIGTERM, and 3 seconds.
    "RAY_JOB_STOP_SIGNAL": "SIGINT",
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
    # The command says of the same variables what its processes get; Ray would take that for a conflict.
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
}

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0  # an upload is answered when it is stored
_UPLOAD_SECONDS = 3600.0  # for the files to be sent, which requests counts as connecting
_PORT_HINT = "the address is that of the dashboard, http://HEAD:8265, not the one that Ray's nodes use (6379)"
_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
)
_SHOWN = 5  # jobs that are named where a name stands for several


@dataclass(frozen=True)
class Job:
    """A job as the cluster tells of it; times in seconds since 1970, `message` what Ray says of its state."""

    id: str
    status: str  # PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED
    command: str
    message: str = ""
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    @property
    def code(self) -> int:
        """The exit code of its command, 128 + N for one that signal N ended; 130 when stopped, 1 if it never began."""
        if self.status == "STOPPED":
            return 130
        if self.exit_code is None:
            return 0 if self.status == "SUCCEEDED" else 1
        return self.exit_code if self.exit_code >= 0 else 128 - self.exit_code

    def __str__(self) -> str:
        if self.status == "FAILED" and self.exit_code is None:
            return f"{self.id}: FAILED before its command ran: {_last_line(self.message)}"
        code = f" with exit code {self.code}" if self.status == "FAILED" else ""
        return f"{self.id}: {self.status}{code}"


class Jobs:
    """The jobs of one cluster. `client` is Ray's JobSubmissionClient.

    Every method raises ClusterError, in one sentence, where the cluster does not answer or refuses.
    """

    def __init__(self, client: Any, address: str) -> None:
        self.client, self.address = client, address

    def submit(
        self,
        job_id: str,
        command: str,
        environment: Mapping[str, str],
        upload: Upload | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Send the files, unless the cluster has them, and begin the job; its working directory is where they lie.

        `command` is run by a shell on the head node.
        """
        files = {} if upload is None else {"working_dir": str(upload.root), "excludes": list(upload.excluded)}
        with _in_one_sentence(self.address):
            self.client.submit_job(
                entrypoint=command,
                submission_id=job_id,
                runtime_env={**files, "env_vars": {**ENVIRONMENT, **environment}},
                metadata=dict(metadata),
            )

    def all(self) -> list[Job]:
        """Every job that was submitted since the cluster started, the oldest first; not drivers that just connected."""
        with _in_one_sentence(self.address):
            found = [_job(details) for details in self.client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.started or 0.0)

    def find(self, name: str) -> Job:
        """The job of that id, or the only one whose id begins so; ClusterError names the nearest."""
        known = self.all()
        fitting = [job for job in known if job.id == name] or [job for job in known if job.id.startswith(name)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            newest = ", ".join(job.id for job in fitting[: -_SHOWN - 1 : -1])
            raise ClusterError(f"job '{name}' stands for {len(fitting)} at {self.address}, the newest: {newest}")
        beginnings = {job.id[: len(name)]: job.id for job in known}  # of several the newest
        near = difflib.get_close_matches(name, beginnings, n=1, cutoff=0.5)
        hint = (
            f"did you mean '{beginnings[near[0]]}'?" if near else "none is called nearly so" if known else "it has none"
        )
        raise ClusterError(f"unknown job '{name}' at {self.address}; {hint}")

    def job(self, job_id: str) -> Job:
        """How the job of exactly this id is now."""
        with _in_one_sentence(self.address):
            return _job(self.client.get_job_info(job_id))

    def log(self, job_id: str) -> str:
        """All that the job has printed so far."""
        with _in_one_sentence(self.address):
            return str(self.client.get_job_logs(job_id))

    def stop(self, job_id: str, seconds: float = STOP_SECONDS + 30.0) -> Job:
        """Ask the job to leave, and wait until it has, at most so long; how it is then."""
        until, asked, job = time.monotonic() + seconds, False, self.job(job_id)
        while not job.is_over and time.monotonic() < until:
            if not asked:  # while it is being set up there may be nobody yet to be asked
                with _in_one_sentence(self.address):
                    asked = bool(self.client.stop_job(job_id))
            time.sleep(0.5)
            job = self.job(job_id)
        return job


def connect_jobs(given: str | None = None) -> Jobs:
    """The jobs of the cluster at `given`, else at $RAY_API_SERVER_ADDRESS, else on this machine.

    ClusterError in one sentence where nothing answers, or the access token is wanted or wrong.
    """
    address = jobs_address(given)
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not listens(f"{in_address(str(parts.hostname))}:{port}"):
        raise ClusterError(f"nothing answers at {address}; {_PORT_HINT}")
    authenticate(create_token=False)
    # Ray's client takes the address in its environment variable, or else $RAY_ADDRESS, whatever it is given.
    with _in_one_sentence(address), variables({"RAY_API_SERVER_ADDRESS": address}):
        return Jobs(_client(address), address)


def jobs_address(given: str | None) -> str:
    """The address of a cluster's dashboard, `http://` where nothing is said; ClusterError for any other kind."""
    address = (given or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS).strip()
    address = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(address)
        is_one = parts.scheme in ("http", "https") and parts.hostname not in (None, "auto", "local") and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not address.isprintable():
        raise ClusterError(f"{redact(address)!r} is no address of a cluster's jobs; {_PORT_HINT}")
    if "@" in parts.netloc:
        raise ClusterError(f"{redact(address)}: an address holds no password; the access token is read from its file")
    return address.rstrip("/")


def is_open_to_listeners(address: str) -> bool:
    """Whether the access token would go over a network unencrypted."""
    authenticate(create_token=False)
    parts = urlsplit(address)
    if parts.scheme != "http" or os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return False
    host = address_of(str(parts.hostname))
    return host is None or not is_loopback(host)


def _client(address: str) -> Any:
    """Ray's client, which waits for no answer without end and says nothing by itself."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        def _do_request(self, method: str, *arguments: Any, **options: Any) -> Any:
            limits = (_UPLOAD_SECONDS if method == "PUT" else _CONNECT_SECONDS, _READ_SECONDS)
            return super()._do_request(method, *arguments, timeout=limits, **options)

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    # requests finds a certificate authority of one's own by this variable, what follows logs does not
    return Client(address, verify=os.environ.get("REQUESTS_CA_BUNDLE") or True)


@contextlib.contextmanager
def _in_one_sentence(address: str) -> Iterator[None]:
    """What Ray's client raises, in one sentence."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        if "Authentication failed" in str(error):
            said = "refuses the access token that is known here; take the one that `ray get-auth-token` prints there"
        else:
            said = "wants an access token, and none is known here; `ray get-auth-token` prints it there"
        raise ClusterError(
            f"{address} {said}, and put it into ~/.ray/auth_token, readable by you only, or another file that "
            "RAY_AUTH_TOKEN_PATH names"
        ) from None
    except requests.exceptions.Timeout:
        raise ClusterError(f"{address} takes connections and does not answer; {_PORT_HINT}") from None
    except (OSError, ValueError) as error:  # requests' errors are of both kinds
        root = _root(error)
        if isinstance(root, ssl.SSLCertVerificationError):
            raise ClusterError(
                f"{address}: its certificate is not trusted here ({root.verify_message}); name the file of the "
                "authority that issued it in REQUESTS_CA_BUNDLE"
            ) from None
        reason = (
            "it speaks no HTTP" if isinstance(root, HTTPException) else getattr(root, "strerror", None) or str(root)
        )
        raise ClusterError(f"no Ray Jobs answer at {address} ({_last_line(reason)}); {_PORT_HINT}") from None
    except RuntimeError as error:
        raise ClusterError(f"Ray at {address} says: {_last_line(str(error))}") from None


def _root(error: BaseException) -> BaseException:
    """What all others were raised for."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error


def _last_line(text: str) -> str:
    """The last line with something on it, without secrets: of a traceback, what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    line = redact(lines[-1]) if lines else "nothing"
    return "".join(letter if letter.isprintable() else " " for letter in line)[:500]


def _job(details: Any) -> Job:
    """From Ray's JobDetails, without its environment."""
    return Job(
        id=str(details.submission_id),
        status=str(getattr(details.status, "value", details.status)),
        command=redact(str(details.entrypoint)),
        message=redact(str(details.message or "")),
        started=None if details.start_time is None else details.start_time / 1000,
        ended=None if details.end_time is None else details.end_time / 1000,
        exit_code=details.driver_exit_code,
        metadata=dict(details.metadata or {}),
    )
