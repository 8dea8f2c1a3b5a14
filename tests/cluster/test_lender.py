"""A connection that is begun early is made once, beside other work, and never left behind; one that stands stays."""

import threading

import pytest

from cluster.errors import ClusterError
from cluster.lender import Lender


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
    with Lender(connect) as lender:
        lender.begin()
        lender.begin()
        first, second = lender(), lender()
    assert made == [first, second]
    assert first.thread is not threading.current_thread() and second.thread is threading.current_thread()
    assert not first.ended and not second.ended, "they are the taker's"


def test_what_nobody_took_is_ended(made, connect):
    with pytest.raises(KeyboardInterrupt), Lender(connect) as lender:
        lender.begin()
        raise KeyboardInterrupt
    assert [one.ended for one in made] == [True]


def test_without_begin_nothing_is_made(made, connect):
    with Lender(connect):
        pass
    assert made == []


def test_an_error_is_the_takers():
    def refuse():
        raise ClusterError("no room")

    with Lender(refuse) as lender:
        lender.begin()
        with pytest.raises(ClusterError, match="no room"):
            lender()
    with Lender(refuse) as lender:
        lender.begin()


def test_who_has_to_wait_is_told_for_what(capsys):
    release = threading.Event()

    def connect():
        release.wait(10)
        return Made()

    with Lender(connect) as lender:
        lender.begin()
        threading.Timer(0.2, release.set).start()
        lender()
        assert "Ray is starting" in capsys.readouterr().out
        lender()
        assert capsys.readouterr().out == ""


def test_what_stands_is_lent_again_and_again_and_ended_at_last(made, connect):
    standing = Made()
    with Lender(connect, standing) as lender:
        lender.begin()
        lender.stay()
        assert lender() is lender() is lender.standing is standing and standing.kept and not standing.ended
    assert made == [] and standing.ended


def test_what_is_to_stay_is_made_once(made, connect):
    with Lender(connect) as lender:
        assert lender.standing is None
        lender.stay()
        lender.stay()
        assert [lender()] == made and made[0].kept and not made[0].ended
    assert made[0].ended
