"""A connection that is begun early is made once, beside other work, and never left behind."""

import threading

import pytest

from cluster.connection import Ahead
from cluster.errors import ClusterError


class Made:
    def __init__(self):
        self.thread, self.ended = threading.current_thread(), False

    def disconnect(self):
        self.ended = True


@pytest.fixture
def made():
    return []


@pytest.fixture
def connect(made):
    def connect():
        made.append(Made())
        return made[-1]

    return connect


def test_what_was_begun_is_taken_and_others_are_new(made, connect):
    with Ahead(connect) as ahead:
        ahead.begin()
        ahead.begin()
        first, second = ahead(), ahead()
    assert made == [first, second]
    assert first.thread is not threading.current_thread() and second.thread is threading.current_thread()
    assert not first.ended and not second.ended, "they are the taker's"


def test_what_nobody_took_is_ended(made, connect):
    with pytest.raises(KeyboardInterrupt), Ahead(connect) as ahead:
        ahead.begin()
        raise KeyboardInterrupt
    assert [one.ended for one in made] == [True]


def test_without_begin_nothing_is_made(made, connect):
    with Ahead(connect):
        pass
    assert made == []


def test_an_error_is_the_takers():
    def refuse():
        raise ClusterError("no room")

    with Ahead(refuse) as ahead:
        ahead.begin()
        with pytest.raises(ClusterError, match="no room"):
            ahead()
    with Ahead(refuse) as ahead:
        ahead.begin()


def test_who_has_to_wait_is_told_for_what(capsys):
    release = threading.Event()

    def connect():
        release.wait(10)
        return Made()

    with Ahead(connect) as ahead:
        ahead.begin()
        threading.Timer(0.2, release.set).start()
        ahead()
        assert "Ray is starting" in capsys.readouterr().out
        ahead()
        assert capsys.readouterr().out == ""
