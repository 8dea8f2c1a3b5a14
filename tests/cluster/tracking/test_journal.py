"""The queue on disk: order, nothing lost, nothing read twice, whatever fails."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.tracking.journal import Journal, orphans

HEADER = {"session": "s", "store": "x", "experiment": "e", "matrix": None, "context": {}}


def numbered(first: int, last: int) -> list[dict[str, Any]]:
    return [{"kind": "n", "n": n} for n in range(first, last)]


def fill(journal: Journal, events: list[dict[str, Any]]) -> None:
    for event in events:
        journal.append(event)


def take_all(journal: Journal) -> list[dict[str, Any]]:
    taken = []
    while events := journal.read():
        for event, position in events:
            taken.append(event)
            journal.advance(position)
    return taken


def test_events_come_in_order_until_they_are_done_with(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, HEADER)
    fill(journal, numbered(0, 3))
    first = journal.read()
    assert journal.read() == first
    assert [event for event, _ in first] == numbered(0, 3)
    journal.advance(first[0][1])
    fill(journal, numbered(3, 5))
    assert take_all(journal) == numbered(1, 5)
    assert not journal.waiting()
    assert journal.path is not None
    assert journal.path.read_bytes().count(b"\n") == 1  # the header
    journal.finish()
    assert not journal.path.exists()


def test_a_journal_is_adopted_only_when_its_owner_is_gone(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "spool", HEADER)
    fill(journal, numbered(0, 3))
    assert journal.path is not None
    assert Journal.adopt(journal.path) is None
    assert list(orphans(tmp_path / "spool")) == []
    journal.close()
    [adopted] = orphans(tmp_path / "spool")
    assert adopted.header == HEADER
    assert Journal.adopt(journal.path) is None
    assert take_all(adopted) == numbered(0, 3)
    adopted.finish()
    assert Journal.adopt(journal.path) is None
    assert list(orphans(tmp_path / "nowhere")) == []


def test_a_file_removed_while_it_is_being_adopted_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(tmp_path, HEADER)
    journal.close()
    path = journal.path
    assert path is not None

    def lock_too_late(file: object, path: Path) -> bool:
        path.unlink()
        return True

    monkeypatch.setattr("cluster.tracking.journal.lock_file", lock_too_late)
    assert Journal.adopt(path) is None


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, HEADER)
    fill(journal, numbered(0, 2))
    journal.close()
    assert journal.path is not None
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "n", "n"')
    adopted = Journal.adopt(journal.path)
    assert adopted is not None
    assert take_all(adopted) == [*numbered(0, 2), {"kind": "torn"}]
    assert not adopted.waiting()


def test_long_lines_and_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.tracking.journal.READ_BYTES", 16)
    journal = Journal.create(tmp_path, HEADER)
    events = [{"kind": "x" * length} for length in (1, 300, 5, 5000, 0)]
    fill(journal, events)
    assert take_all(journal) == events


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Set how many more bytes the disk takes: None for no limit."""
    room: list[int | None] = [None]
    write = os.write

    def limited(descriptor: int, data: bytes) -> int:
        if room[0] is None:
            return write(descriptor, data)
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: room[0]]
        room[0] -= len(part)
        return write(descriptor, part)

    monkeypatch.setattr(os, "write", limited)
    return lambda size: room.__setitem__(0, size)


def test_a_full_disk_delays_events_but_keeps_their_order(tmp_path: Path, disk: Callable[[int | None], None]) -> None:
    journal = Journal.create(tmp_path, HEADER)
    fill(journal, numbered(0, 2))
    disk(30)  # half a line fits
    fill(journal, numbered(2, 5))
    assert journal.path is not None
    assert journal.path.read_bytes().endswith(b"\n")
    disk(None)
    fill(journal, numbered(5, 6))
    assert take_all(journal) == numbered(0, 6)
    assert journal.lost == 0


def test_a_disk_that_stays_full_is_read_past_from_memory(tmp_path: Path, disk: Callable[[int | None], None]) -> None:
    journal = Journal.create(tmp_path, HEADER)
    disk(0)
    fill(journal, numbered(0, 4))
    held = journal.read()
    disk(None)
    fill(journal, numbered(4, 6))  # must not overtake those being read, nor write them down a second time
    journal.advance(held[1][1])
    fill(journal, numbered(6, 7))
    assert take_all(journal) == numbered(2, 7)
    journal.finish()
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_reaches_the_disk(tmp_path: Path, disk: Callable[[int | None], None]) -> None:
    journal = Journal.create(tmp_path, HEADER)
    disk(0)
    fill(journal, numbered(0, 4))
    journal.read()
    disk(None)
    journal.keep()
    journal.close()
    [adopted] = orphans(tmp_path)
    assert take_all(adopted) == numbered(0, 4)


def test_memory_is_bounded_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.tracking.journal.KEPT_IN_MEMORY", 10)
    (tmp_path / "spool").write_text("in the way")
    journal = Journal.create(tmp_path / "spool", HEADER)
    assert journal.path is None
    fill(journal, numbered(0, 8))
    held = journal.read()
    fill(journal, numbered(8, 25))
    assert journal.lost == 15
    journal.advance(held[-1][1])  # events 0 to 7: gone already
    assert take_all(journal) == numbered(15, 25)


def test_two_threads(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, HEADER)
    writer = threading.Thread(target=fill, args=(journal, numbered(0, 5000)))
    writer.start()
    taken: list[dict[str, Any]] = []
    while writer.is_alive() or journal.waiting():
        taken += take_all(journal)
    assert taken == numbered(0, 5000)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["append", "read one", "read all", "kill", "keep"]), max_size=40))
def test_whatever_happens_every_event_comes_in_order(steps: list[str]) -> None:
    with TemporaryDirectory() as folder:
        journal = Journal.create(Path(folder), HEADER)
        said = 0
        expected = 0  # the next event not yet advanced past
        for step in [*steps, "read all"]:
            if step == "append":
                journal.append({"n": said})
                said += 1
            elif step == "kill":
                journal.close()
                [journal] = orphans(Path(folder))
            elif step == "keep":
                journal.keep()
            else:
                events = journal.read()
                for event, position in events if step == "read all" else events[:1]:
                    # After a kill, events already brought over may come again, but never one too early.
                    assert event["n"] <= expected
                    expected = max(expected, event["n"] + 1)
                    journal.advance(position)
        assert expected == said
        journal.finish()
        assert list(Path(folder).iterdir()) == []
