"""``altformer logs`` and ``altformer stop``, and what Ctrl-C does to them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster import job_following
from cluster.errors import ClusterError
from cluster.jobs import Jobs
from experiments.cli import main
from experiments.logs_command import find_jobs
from tests.cluster.fake_jobs import FakeClient, details

ONE = "depth-METR-LA-20260131-173000"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a fake client the one of every address."""
    monkeypatch.setattr(job_following, "AGAIN_SECONDS", 0.0)

    def use(client: FakeClient) -> FakeClient:
        monkeypatch.setattr("cluster.jobs.connect_jobs", lambda address: Jobs(client, address or "http://head:8265"))
        return client

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return use


def test_the_log_so_far_is_printed_as_it_is(at, capsys):
    at(FakeClient(details(ONE))).whole_log = "begins\nepoch 1\n"
    assert main(["logs", "depth"]) == 0
    assert capsys.readouterr().out == "begins\nepoch 1\n"


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (details(ONE, "SUCCEEDED", driver_exit_code=0), 0, "SUCCEEDED"),
        (details(ONE, "FAILED", driver_exit_code=1), 1, "FAILED with exit code 1"),
        (details(ONE, "FAILED", driver_exit_code=2), 2, "FAILED with exit code 2"),
        (details(ONE, "FAILED", driver_exit_code=3), 3, "FAILED with exit code 3"),
        (details(ONE, "FAILED", message="no room"), 1, "FAILED before its command ran: no room"),
        (details(ONE, "STOPPED"), 130, "STOPPED"),
    ],
)
def test_following_to_the_end_has_the_job_s_exit_code(end, code, said, at, capsys):
    at(FakeClient(details(ONE), tails=[["begins\n"]], ends=end)).whole_log = "begins\n"
    assert main(["logs", ONE, "--follow"]) == code
    assert capsys.readouterr().out == f"begins\n{ONE}: {said}\n"


class Running(FakeClient):
    """A job that goes on; a signal reaches this process when its log has been printed."""

    number = signal.SIGINT

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        yield "epoch 1\n"
        threading.Timer(0.3, os.kill, (os.getpid(), self.number)).start()
        await self.never()

    async def never(self) -> None:
        import asyncio

        await asyncio.sleep(60)


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background of a shell that has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_only_the_following_and_says_how_to_go_on(number, code, at, capsys):
    client = at(Running(details(ONE)))
    client.number = number
    assert main(["logs", ONE, "--follow", "--address", "http://head:8265"]) == code
    printed = capsys.readouterr().out
    assert printed.startswith("epoch 1\n") and f"{ONE} goes on" in printed
    assert f"altformer logs {ONE} --address http://head:8265 --follow" in printed
    assert f"altformer stop {ONE} --address http://head:8265" in printed
    assert client.asked_to_stop == 0


def test_the_commands_that_are_said_are_commands(at, capsys):
    from experiments.logs_command import attached_again

    said = attached_again(Jobs(FakeClient(), "http://head/?a=b&c"), "a;b").splitlines()
    assert said[1].strip().startswith("altformer logs 'a;b' --address 'http://head/?a=b&c' --follow")


@pytest.mark.parametrize(
    ("client", "code", "out", "error"),
    [
        (FakeClient(details(ONE), ends=details(ONE, "STOPPED")), 0, f"{ONE}: STOPPED\n", ""),
        (FakeClient(details(ONE, "FAILED", driver_exit_code=3)), 0, "exit code 3 (it was over before)\n", ""),
        (FakeClient(details(ONE)), 1, "", f"{ONE} has been asked to stop and is still RUNNING"),
    ],
)
def test_stopping_waits_and_says_what_the_job_is(client, code, out, error, at, capsys, monkeypatch):
    from cluster import jobs

    wait = jobs.Jobs.stop
    monkeypatch.setattr(jobs.Jobs, "stop", lambda self, job_id: wait(self, job_id, seconds=2.0))
    at(client)
    assert main(["stop", ONE]) == code
    said = capsys.readouterr()
    assert said.out.endswith(out) and error in said.err


@pytest.mark.parametrize("arguments", [["logs", "depht"], ["logs", "depht", "--follow"], ["stop", "depht"]])
def test_an_unknown_job_names_the_nearest(arguments, at, capsys):
    client = at(FakeClient(details(ONE)))
    assert main(arguments) == 2
    assert (
        capsys.readouterr().err == f"altformer: unknown job 'depht' at http://127.0.0.1:8265; did you mean '{ONE}'?\n"
    )
    assert client.asked_to_stop == 0


@pytest.mark.parametrize(("address", "is_open"), [("http://head:8265", True), ("https://head", False)])
def test_a_token_that_would_go_in_the_clear_is_said_before_it_goes(address, is_open, capsys, monkeypatch):
    def connect(address: str) -> None:
        raise ClusterError("asked now")

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr("cluster.jobs.connect_jobs", connect)
    with pytest.raises(ClusterError, match="asked now"):
        find_jobs(address)
    said = capsys.readouterr().err
    assert ("ssh -L 8265:127.0.0.1:8265" in said and "https://" in said) == is_open == bool(said)
