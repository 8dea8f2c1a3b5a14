"""How long a slice goes on: its clock, and what tells the training of one seed, or of several at once, to leave."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ablations.plan import PlannedCell
from altformer.data.traffic import TrafficData
from altformer.training.checkpoint import last_curve
from experiments.pace import SCORED_SHARE, load_of
from experiments.train_progress import SeedProgress, TrainProgress

LEAVING = 1.0  # seconds to write a checkpoint


class Clock:
    """What is left of a slice, in seconds; ``startup`` is the longest time until a cell's first step was done."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.began = time.monotonic()
        self.startup = 0.0
        self._begun = False

    @property
    def left(self) -> float:
        """Seconds until the slice must end; below zero when that is over."""
        return self.seconds - (time.monotonic() - self.began)

    def begins(self) -> bool:
        """Whether a cell is begun now: the first of a slice always is, another if it gets further than its start."""
        first, self._begun = not self._begun, True
        return first or self.left > 2 * self.startup


class SliceContext(TrainProgress):
    """Leaves where the slice is over: between two steps, and where there is no time left to score before a scoring.

    Of several seeds that are trained at once it is what they have in common, see `SeedInSlice`: they leave together.
    """

    def __init__(self, name: str, cells: Sequence[PlannedCell], data: TrafficData, params: int, clock: Clock) -> None:
        first = cells[0].cell
        training = first.config.training
        super().__init__(first.machine.device, training, name)
        self._clock, self._load, self._seeds = clock, load_of(first.config, data, params), len(cells)
        self._batch = training.batch_size * training.gradient_accumulation_steps
        self._began = self._stepped = time.monotonic()  # when it was made, then the first step; the last step
        self._at, self._steps = (0, 0), 0  # epoch and step; steps done here
        self._left = 0  # steps of this epoch to be done
        self._judged, self._is_over = 0, False  # the last epoch that was scored, and whether it must be that
        self._window: float | None = None  # seconds to score one, once known
        if curve := last_curve(first.folder):
            self._window = self._seconds_of_window(curve[-1])

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Note when a step was done, of several seeds once."""
        if (epoch, step) == self._at:
            return
        super().progress(epoch, step, steps)
        self._at, self._steps, self._left = (epoch, step), self._steps + 1, steps - step
        self._stepped = time.monotonic()
        if self._steps == 1:
            self._clock.startup = max(self._clock.startup, self._stepped - self._began)
            self._began = self._stepped

    def report(self, metrics: Mapping[str, float]) -> None:
        """Note what scoring takes."""
        self.judge(metrics)
        super().report(metrics)

    def judge(self, metrics: Mapping[str, float]) -> None:
        """After an epoch, of several seeds the first one's: whether the tests can follow it, and what comes before."""
        if metrics["epoch"] == self._judged:
            return
        self._judged, self._window = int(metrics["epoch"]), self._seconds_of_window(metrics)
        others = (self._seeds - 1) * self._scoring(self._load.validated)
        self._is_over = self._clock.left < self._seeds * (LEAVING + self._scoring(self._load.tested)) + others

    def should_stop(self) -> str | None:
        """After an epoch: the test may follow."""
        return "the slice is over" if self._is_over else None

    def leave_now(self) -> bool:
        """After a step; after an epoch's last one, where this is not asked, its validation follows."""
        needed = self._seeds * LEAVING + 2 * self._step_seconds
        if self._left == 1:
            needed += self._seeds * self._scoring(self._load.validated)
        return self._clock.left < needed

    @property
    def _step_seconds(self) -> float:
        """Of a step but the first, as far as there was one."""
        return (self._stepped - self._began) / max(self._steps - 1, 1)

    def _seconds_of_window(self, metrics: Mapping[str, float]) -> float:
        """To score one, from the epoch of a seed: what the steps have left of its time."""
        seconds = metrics["epoch_seconds"] - self._load.trained / metrics["samples_per_second"]
        return max(seconds, 0.0) / self._load.validated

    def _scoring(self, windows: int) -> float:
        """Seconds to score so many windows of one seed; before the first time guessed from the steps."""
        window = self._window
        if window is None:
            window = self._step_seconds / (self._batch * self._seeds) * SCORED_SHARE
        return windows * window


class SeedInSlice(SeedProgress):
    """One of several seeds that are trained at once: all leave when their common context does."""

    def __init__(self, shown: SliceContext, seed: int) -> None:
        super().__init__(shown, seed, shown.judge)
        self.should_stop = shown.should_stop  # type: ignore[method-assign]
        self.leave_now = shown.leave_now  # type: ignore[method-assign]
