"""A connection that is begun before it is needed, beside other work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from cluster.connection import Connection


class Ahead:
    """Makes connections; after ``begin`` the next one is made in a thread, and is there when it is asked for.

    Ray is waited for far longer than it computes. As a context manager it ends what was begun and never taken.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="connect")
        self._begun: Future[Connection] | None = None

    def begin(self) -> None:
        """Begin with the next connection, unless that has been done."""
        if self._begun is None:
            self._begun = self._thread.submit(self._connect)

    def __call__(self) -> Connection:
        """The connection that was begun, else a new one; raises what making it has raised."""
        if self._begun is None:
            return self._connect()
        connection = self._begun.result()
        self._begun = None
        return connection

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._begun is not None:
            with contextlib.suppress(Exception):  # nobody has asked for it
                self._begun.result().disconnect()
        self._thread.shutdown()
