"""Waiting for nodes: it ends, and says what was missing."""

from __future__ import annotations

import time

import pytest

from cluster.errors import ClusterError
from cluster.launch.waiting import wait_for_nodes


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no address", "127.0.0.1"])
def test_where_nothing_answers_it_says_so_in_time(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"waited 0\.2 s for 3 nodes, but no Ray cluster answers there"):
        wait_for_nodes(address, 3, 0.2)
    assert time.monotonic() - started < 30


def test_something_else_that_listens_there_is_no_cluster(other_program: str) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        wait_for_nodes(other_program, 1, 0.1)
    assert time.monotonic() - started < 20, "Ray itself would try for 40 seconds"


def test_what_is_known_better_ends_the_waiting() -> None:
    def check() -> None:
        raise ClusterError("it has died")

    with pytest.raises(ClusterError, match="it has died"):
        wait_for_nodes("127.0.0.1:1", 1, 100.0, check)
