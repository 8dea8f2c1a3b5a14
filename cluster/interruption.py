"""SIGINT and SIGTERM while cells run: the first asks them to leave, the second ends at once. A budget only asks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import ray

# For the mailbox to answer while cells train.
_ANSWER_SECONDS = 10.0
# After an interruption's grace, for Tune and Ray to end what was given up.
_GIVE_UP_SECONDS = 30.0
# For running cells to leave when nobody is in a hurry.
_UNHURRIED_SECONDS = 600.0
# One signal often comes twice: `timeout` and job managers send it to the process and to its group.
_SAME_SIGNAL_SECONDS = 0.5


class Interruption:
    """The first SIGINT or SIGTERM asks, the second ends."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal_name: str | None = None
        self.grace_seconds = self._hurried = 0.0
        self._over = threading.Event()
        self._asked_at = 0.0

    @contextlib.contextmanager
    def handled(self, mailbox: Any, grace_seconds: float) -> Iterator[None]:
        """Handle both signals meanwhile; outside the main thread Python allows no handlers, and there are none."""
        self.grace_seconds = self._hurried = grace_seconds
        asker = threading.Thread(target=self._ask, args=(mailbox,), daemon=True, name="interruption")
        asker.start()
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            # Tune handles SIGUSR1 and leaves its handler behind.
            before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
            for asked in (signal.SIGINT, signal.SIGTERM):
                signal.signal(asked, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.over()
            # Its handle of the mailbox must be gone before Ray is: dropped while Ray shuts down, it ends the process.
            asker.join()

    def over(self) -> None:
        """Nobody is left to be asked; signals are still taken note of."""
        self._over.set()

    def ask(self, hurried: bool = False) -> None:
        """Ask cells to leave without a signal, and wait longer for them, unless hurried."""
        if not hurried:
            self.grace_seconds = max(self.grace_seconds, _UNHURRIED_SECONDS)
        self._asked_at = time.monotonic()
        self.event.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is None:
            self.signal_name = signal.Signals(number).name
            self.grace_seconds = self._hurried
            self._asked_at = time.monotonic()
            self.event.set()
        elif time.monotonic() - self._asked_at > _SAME_SIGNAL_SECONDS:
            self._end_at_once()

    def _end_at_once(self) -> None:
        # Not sys.exit: no clean-up may hold this up. A local Ray ends with this process, and on a cluster its work.
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # a live table hides the cursor
        os._exit(128 + signal.Signals[self.signal_name] if self.signal_name else 1)

    def _ask(self, mailbox: Any) -> None:
        # Polled: a signal handler must not wake a thread that waits for both events, and half a second is soon enough.
        while not self.event.is_set():
            if self._over.wait(0.5):
                return
        try:
            ray.get(mailbox.interrupt.remote("interrupted"), timeout=_ANSWER_SECONDS)
            if not self._over_in_time():
                ray.get(mailbox.abandon.remote(), timeout=_ANSWER_SECONDS)
                if not self._over.wait(_GIVE_UP_SECONDS):
                    self._end_at_once()
        except ray.exceptions.RayError:
            # The same signal has ended Ray (a job manager sends it to all), or the mailbox has died: nobody is left to
            # be asked.
            if not self._over.wait(1.0 if self.signal_name else _GIVE_UP_SECONDS):
                self._end_at_once()

    def _over_in_time(self) -> bool:
        """Wait for the end as long as the grace lasts, which a signal shortens."""
        while not self._over.wait(0.5):
            if time.monotonic() - self._asked_at > self.grace_seconds:
                return False
        return True
