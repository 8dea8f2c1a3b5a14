"""The order in which cells get slots, as a search algorithm of Tune."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from cluster.futility import Decision
from cluster.scheduler import FINAL
from cluster.work import PAUSED, Work


class Queue(Searcher):  # type: ignore[misc]
    """Gives out cells in order, at most ``slots`` at once, and none after ``ended`` is set.

    A cell that comes back to wait at a rung is given out again when ``decide`` lets it go on or has stopped it, before
    any that has not begun. When nothing runs and nothing may run, the queue has come to its end.
    """

    def __init__(
        self, works: Sequence[Work], slots: int, decide: Callable[[str], Decision], ended: threading.Event
    ) -> None:
        super().__init__()
        self._slots, self._decide, self._ended = slots, decide, ended
        self._new = list(works)
        self._waiting: list[Work] = []
        self._running: dict[str, Work] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next cell, None when it has to be waited for, FINISHED at the end."""
        if self._ended.is_set():
            return str(Searcher.FINISHED)
        if len(self._running) >= self._slots:
            return None
        for cells in (self._waiting, self._new):
            for work in cells:
                if (decision := self._decide(work.key)) != "pause":
                    cells.remove(work)
                    self._running[trial_id] = work
                    return {"cell": _cell(work, "scheduler" if decision == "stop" else None)}
        return None if self._running else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A slot is free; its cell may come back."""
        work = self._running.pop(trial_id, None)
        if work is not None and not error and (result or {}).get(f"{FINAL}/status") == PAUSED:
            self._waiting.append(work)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: we never restore."""

    def restore(self, checkpoint_path: str) -> None:
        """Never."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: we never restore."""

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()


def _cell(work: Work, stop: str | None) -> dict[str, Any]:
    return {"key": work.key, "name": work.name, "epochs": work.epochs, "stop": stop}
