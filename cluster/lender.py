"""Who lends connections to Ray to matrices: one that stays, or a Ray of our own for each, begun ahead of its use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from cluster.connection import Connection


class Lender:
    """Lends the ``standing`` connection where there is one, else each time what ``connect`` makes.

    Ray is waited for far longer than it computes: after ``begin`` the next connection is made in a thread, and is there
    when it is asked for. As a context manager it ends the standing connection, and what was begun and never taken; any
    other is its taker's to end.
    """

    def __init__(self, connect: Callable[[], Connection], standing: Connection | None = None) -> None:
        self.standing = standing
        self._connect = connect
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="connect")
        self._begun: Future[Connection] | None = None
        if standing is not None:
            standing.kept = True

    def begin(self) -> None:
        """Begin with the next connection, unless that has been done or one stands."""
        if self._begun is None and self.standing is None:
            self._begun = self._thread.submit(self._connect)

    def stay(self) -> None:
        """Connect, unless that has been done, and lend this connection from now on."""
        if self.standing is None:
            self.standing = self()
            self.standing.kept = True

    def __call__(self) -> Connection:
        """The connection that stands or was begun, else a new one; raises what making it has raised."""
        if self.standing is not None:
            return self.standing
        if self._begun is None:
            return self._connect()
        if not self._begun.done():
            print("Ray is starting on this machine; cells begin when it is up.", flush=True)
        connection = self._begun.result()
        self._begun = None
        return connection

    def __enter__(self) -> Lender:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._begun is not None:
            with contextlib.suppress(Exception):  # nobody has asked for it
                self._begun.result().disconnect()
        self._thread.shutdown()
        if self.standing is not None:
            self.standing.disconnect()
