"""The queue between training and MLflow: an append-only file, so that what is not logged yet outlives the process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from cluster.errors import ClusterError
from cluster.file_lock import lock_file

Event = dict[str, Any]
KEPT_IN_MEMORY = 10_000
HEADER = {"session", "store", "experiment", "matrix", "context"}  # the keys of the first line
READ_AT_ONCE = 2_000
READ_BYTES = 1_000_000


class Journal:
    """Events of one session as JSON lines; the first line says whose they are.

    `append` is one small write into the page cache: it survives `kill -9` of the process and takes microseconds.
    Where the file cannot be written (full disk), the last KEPT_IN_MEMORY events are held in memory instead and
    written, in order, as soon as there is room. A process owns its journal by a lock on the file: a journal that
    can be locked belongs to nobody any more and may be replayed by anyone.
    """

    def __init__(self, path: Path | None, file: IO[bytes] | None, header: Event, start: int) -> None:
        self.path = path
        self.header = header
        self.lost = 0
        self._file = file
        self._start = self._read_at = start
        self._size = os.fstat(file.fileno()).st_size if file else 0
        self._memory: deque[Event] = deque()
        self._first = 0  # running number of the first event in memory
        self._memory_in_use = False  # the reader holds events from memory: moving them to the file would log them twice
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, header: Mapping[str, Any]) -> Journal:
        """A new journal in `folder`; one in memory only, where `folder` cannot be written or has no file locks."""
        header = dict(header)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        line = _line(header)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            hidden = path.with_suffix(".new")  # takes its name only once it is locked, else others could adopt it
            file = hidden.open("a+b", buffering=0)
            lock_file(file, hidden)
            file.write(line)
            hidden.rename(path)
        except (OSError, ClusterError):
            return cls(None, None, header, 0)
        return cls(path, file, header, len(line))

    @classmethod
    def adopt(cls, path: Path) -> Journal | None:
        """The journal at `path` if its owner is gone, else None. Raises ValueError for a file that is no journal."""
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC), "r+b", buffering=0)
        except FileNotFoundError:
            return None
        if not lock_file(file, path) or not _still_there(file, path):
            file.close()
            return None
        first = file.readline()
        header = _parsed(first)
        if header is None or not header.keys() >= HEADER:
            file.close()
            raise ValueError(f"{path} is not a spool file: its first line is not a header")
        return cls(path, file, header, len(first))

    def append(self, event: Event) -> None:
        """Add an event at the end; never raises, never waits for more than the write itself."""
        with self._lock:
            self._memory.append(event)
            if not self._memory_in_use:
                self._memory_to_file()
            if len(self._memory) > KEPT_IN_MEMORY:
                self._memory.popleft()
                self._first += 1
                self.lost += 1

    def _memory_to_file(self) -> None:
        while self._file is not None and self._memory:
            line = _line(self._memory[0])
            try:
                if os.write(self._file.fileno(), line) < len(line):
                    raise OSError("disk full")
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), self._size)  # half a line would swallow the next one
                return
            self._size += len(line)
            self._memory.popleft()
            self._first += 1

    def read(self) -> list[tuple[Event, int]]:
        """The next events in order, each with the position after it; [] when there are none.

        Reading again without `advance` gives the same events. Positions in memory are negative.
        """
        with self._lock:
            self._memory_in_use = False
            if self._file is not None and self._read_at < self._size:
                return self._from_file(self._file)
            taken = list(itertools.islice(self._memory, READ_AT_ONCE))
            self._memory_in_use = bool(taken)
            return [(event, -(self._first + i + 1)) for i, event in enumerate(taken)]

    def _from_file(self, file: IO[bytes]) -> list[tuple[Event, int]]:
        length = READ_BYTES
        while b"\n" not in (block := os.pread(file.fileno(), length, self._read_at)) and len(block) == length:
            length *= 2
        if self._read_at + len(block) < self._size:
            block = block[: block.rfind(b"\n") + 1]
        events = []
        position = self._read_at
        for line in block.splitlines(keepends=True):
            position += len(line)
            # A torn line (power loss) cannot be logged; it keeps its place so that the reader gets past it.
            events.append((_parsed(line) or {"kind": "torn"}, position))
        return events

    def advance(self, position: int) -> None:
        """Forget everything up to `position`: it is in the store. An empty journal shrinks to its header."""
        with self._lock:
            if position < 0:
                while self._memory and self._first < -position:
                    self._memory.popleft()
                    self._first += 1
                return
            self._read_at = position
            if self._file is not None and position >= self._size:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), self._start)
                    self._size = self._read_at = self._start

    @property
    def homeless(self) -> int:
        """How many events are in no file and so end with this process: there is no folder to write to, or no space."""
        with self._lock:
            return len(self._memory) + self.lost

    def waiting(self) -> bool:
        """Whether there are events that are not in the store yet."""
        with self._lock:
            return bool(self._memory) or self._read_at < self._size

    def keep(self) -> None:
        """The reader gives up for now: bring everything to the file and make it outlive a power loss."""
        with self._lock:
            self._memory_in_use = False
            self._memory_to_file()
            # A descriptor of its own: the journal may be closed meanwhile; nobody waits for the disk behind the lock.
            descriptor = os.dup(self._file.fileno()) if self._file is not None else None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)

    def modified(self) -> float:
        """When the last event came, in seconds since 1970."""
        return os.fstat(self._file.fileno()).st_mtime if self._file is not None else time.time()

    def finish(self) -> None:
        """Let go of the file, and remove it when all its events are in the store."""
        if self.path is not None and not self.waiting():
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file; it stays for whoever comes next."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def orphans(folder: Path) -> Iterator[Journal]:
    """Journals in `folder` whose processes are gone, oldest first, each locked for the caller to replay and close."""
    for path in sorted(folder.glob("*.jsonl")):
        with contextlib.suppress(OSError, ValueError, ClusterError):
            journal = Journal.adopt(path)
            if journal is not None:
                yield journal


def _still_there(file: IO[bytes], path: Path) -> bool:
    """False when the owner removed the file between our opening and locking it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _line(event: Event) -> bytes:
    return json.dumps(event, default=str).encode() + b"\n"


def _parsed(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
