"""The log of a job, once and whole, over connections that break."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import job_following
from cluster.errors import ClusterError
from cluster.job_following import follow
from cluster.jobs import Jobs
from tests.cluster.fake_jobs import FakeClient, details

ONE = "depth-METR-LA-20260131-173000"
DONE = details(ONE, "SUCCEEDED", driver_exit_code=0)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_following, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(job_following, "IDLE_SECONDS", 0.05)


def followed(client: FakeClient) -> tuple[str, list[str], int]:
    written: list[str] = []
    notices: list[str] = []
    job = follow(Jobs(client, "http://head"), ONE, written.append, notices.append)
    return "".join(written), notices, job.code


def test_the_log_is_written_as_it_comes_until_the_job_is_over():
    client = FakeClient(details(ONE), tails=[["begins\n", "epoch 1\n"]], ends=DONE)
    client.whole_log = "begins\nepoch 1\nthe last line\n"
    assert followed(client) == ("begins\nepoch 1\nthe last line\n", [], 0)


LOG = "begins\nepoch 1\nepoch 2\nepoch 3\ndone\n"


@given(st.lists(st.integers(0, len(LOG)), max_size=4), st.integers(1, 9))
def test_each_letter_is_written_once_however_often_the_connection_breaks(reached, size):
    """Ray sends the log from its beginning again, in whatever pieces."""
    tails = [[*pieces(LOG[:end], size), ConnectionError("lost")] for end in reached]
    client = FakeClient(details(ONE), tails=[*tails, pieces(LOG, size)], ends=DONE)
    client.whole_log = LOG
    assert followed(client) == (LOG, [], 0)


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def test_a_connection_that_is_dead_without_a_word_is_noticed_when_the_job_is_over():
    class Dead(FakeClient):
        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            yield "begins\n"
            self.jobs[job_id] = DONE
            while not over.is_set():
                over.wait(0.01)

    over = threading.Event()
    client = Dead(details(ONE))
    client.whole_log = "begins\ndone\n"
    try:
        assert followed(client) == ("begins\ndone\n", [], 0)
    finally:
        over.set()


def test_where_no_connection_may_stay_open_the_log_is_asked_for(monkeypatch):
    """As behind a proxy without WebSockets."""

    class Asked(FakeClient):
        def get_job_logs(self, job_id: str) -> str:
            self.whole_log += f"epoch {len(self.whole_log.splitlines()) + 1}\n"
            if len(self.whole_log.splitlines()) == 3:
                self.jobs[job_id] = DONE
            return self.whole_log

    refused = [[ConnectionError("no upgrade")] for _ in range(9)]
    assert followed(Asked(details(ONE), tails=refused)) == ("epoch 1\nepoch 2\nepoch 3\nepoch 4\n", [], 0)


def test_a_cluster_that_is_away_for_a_while_is_said_once_and_waited_for(monkeypatch):
    client = FakeClient(details(ONE), tails=[["begins\n"], [], []], ends=DONE)
    client.fails = [ConnectionError("connection refused"), ConnectionError("connection refused")]
    client.whole_log = "begins\ndone\n"
    written, notices, code = followed(client)
    assert (written, code) == ("begins\ndone\n", 0)
    [notice] = notices
    assert notice.startswith("http://head does not answer any more; the job goes on")


def test_a_cluster_that_stays_away_is_given_up(monkeypatch):
    monkeypatch.setattr(job_following, "PATIENCE_SECONDS", 0.0)
    client = FakeClient(details(ONE))
    client.fails = [ConnectionError("connection refused")] * 5
    with pytest.raises(ClusterError, match="connection refused"):
        followed(client)
