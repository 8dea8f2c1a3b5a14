"""The order in which cells get slots, as a search algorithm of Tune."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from cluster.futility import Decision
from cluster.retries import Again
from cluster.scheduler import FINAL
from cluster.work import PAUSED, Work

#: What a cell is given instead of what every cell gets: twice the share; None: nothing else.
Bundle = Mapping[str, float] | None


class Queue(Searcher):  # type: ignore[misc]
    """Gives out cells in order, at most ``slots`` at once, and none after ``ended`` is set.

    A cell that lost an attempt is given out again before any other. One that comes back to wait at a rung is given out
    when ``decide`` lets it go on or has stopped it, before any that has not begun. While ``holds`` says so nothing is
    given out. When nothing runs and nothing may run, the queue has come to its end.
    """

    def __init__(
        self,
        works: Sequence[Work],
        slots: int,
        decide: Callable[[str], Decision],
        ended: threading.Event,
        holds: Callable[[], bool] = lambda: False,
        double_bundle: Bundle = None,
    ) -> None:
        super().__init__()
        self.slots, self.double_bundle = slots, double_bundle  # they change with the nodes of the cluster
        self.look_around: Callable[[], None] = lambda: None  # while nothing runs, Tune does nothing else than ask
        self._decide, self._ended, self._holds = decide, ended, holds
        self._new = list(works)
        self._waiting: list[Work] = []
        self._again: list[Work] = []
        self._how: dict[str, Again] = {}
        self._running: dict[str, tuple[Work, Bundle]] = {}
        self.running = 0  # the slots that are taken
        self.doubled: set[str] = set()  # cells that have been given twice the share

    def again(self, work: Work, how: Again) -> None:
        """Give a cell out again, as soon as there is room."""
        self._how[work.key] = how
        self._again.append(work)

    def without_room(self, begun: Collection[str], fits: Callable[[Bundle, str], bool]) -> bool:
        """Whether cells were given out but none has `begun` nor `fits`, by a bundle of its own and whom to avoid."""
        given = self._running.values()
        if not given or any(work.key in begun for work, _ in given):
            return False
        return not any(fits(bundle, self._how.get(work.key, Again()).avoid or "") for work, bundle in given)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next cell, None when it has to be waited for, FINISHED at the end."""
        if self._ended.is_set():
            return str(Searcher.FINISHED)
        if self._holds():
            return None if self._running else str(Searcher.FINISHED)
        if self.running >= self.slots:
            if not self._running:
                self.look_around()
            return None
        for cells in (self._again, self._waiting, self._new):
            for place, work in enumerate(cells):
                if (decision := self._decide(work.key)) != "pause":
                    bundle = self.double_bundle if self._how.get(work.key, Again()).double else None
                    if self._running and self.running + _places(bundle) > self.slots:
                        return None  # not a smaller one instead: it would never get room
                    del cells[place]
                    self._running[trial_id] = work, bundle
                    self.running += _places(bundle)
                    return self._config(work, bundle, "scheduler" if decision == "stop" else None)
        return None if self._running else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A slot is free; its cell may come back."""
        if trial_id not in self._running:
            return
        work, bundle = self._running.pop(trial_id)
        self.running -= _places(bundle)
        if not error and (result or {}).get(f"{FINAL}/status") == PAUSED:
            self._waiting.append(work)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: we never restore."""

    def restore(self, checkpoint_path: str) -> None:
        """Never."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: we never restore."""

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()

    def _config(self, work: Work, bundle: Bundle, stop: str | None) -> dict[str, Any]:
        avoid = self._how.get(work.key, Again()).avoid
        cell = {"key": work.key, "name": work.name, "epochs": work.epochs, "stop": stop, "avoid": avoid}
        if bundle is None:
            return {"cell": cell}
        self.doubled.add(work.key)
        return {"cell": cell, "bundle": dict(bundle)}


def _places(bundle: Bundle) -> int:
    return 1 if bundle is None else 2
