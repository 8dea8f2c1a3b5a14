"""How a bare run shows itself: a bar with ETA on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from altformer.training.config import TrainingConfig, selection_metric
from altformer.training.context import BareContext
from experiments import cell_lock


class TrainProgress(BareContext):
    """A bare context that shows epochs and steps, and passes each epoch's metrics on where there is ``on_epoch``."""

    def __init__(
        self,
        device: str,
        training: TrainingConfig,
        name: str,
        on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        super().__init__(device)
        self.epochs, self.metric, self.on_epoch = training.epochs, selection_metric(training), on_epoch
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=None)
        self._name = name
        self._waiting = _Said(lambda text: self._say(f"{name}: {text}"))  # for another process that trains the cell

    def __enter__(self) -> TrainProgress:
        self._bar.start()
        cell_lock.log.addHandler(self._waiting)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        cell_lock.log.removeHandler(self._waiting)
        self._bar.stop()

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        done, total = (epoch - 1) * steps + step, self.epochs * steps
        self._bar.update(
            self._task, completed=done, total=total, description=f"{self._name} epoch {epoch}/{self.epochs}"
        )

    def report(self, metrics: Mapping[str, float]) -> None:
        """Print one line and pass the metrics on."""
        self.tell(metrics)
        if self.on_epoch is not None:
            self.on_epoch(metrics)

    def tell(self, metrics: Mapping[str, float], who: str = "") -> None:
        """Print one line, about ``who``."""
        line = (
            f"{who}epoch {int(metrics['epoch'])}/{self.epochs}  train loss {metrics['train_loss']:.4f}  "
            f"{self._selected(metrics)}  lr {metrics['lr']:.2e}  {metrics['epoch_seconds']:.1f} s"
        )
        self._say(line)

    def _say(self, line: str) -> None:
        if self._bar.disable:
            print(line, flush=True)
        else:
            self._bar.console.print(line, highlight=False, markup=False)

    def _selected(self, metrics: Mapping[str, float]) -> str:
        """The validation error that the best epoch is chosen by, under its name."""
        name = "val MAE" if self.metric == "val_mae" else "val MAE (missing readings scored)"
        return f"{name} {metrics[self.metric]:.4f}"


class SeedProgress(BareContext):
    """The context of one seed of several that are trained at once: all show themselves by one bar."""

    def __init__(self, shown: TrainProgress, seed: int, on_epoch: Callable[[Mapping[str, float]], None]) -> None:
        super().__init__(shown.device)
        self._shown, self._seed, self._on_epoch = shown, seed, on_epoch
        self.progress = shown.progress  # type: ignore[method-assign]

    def report(self, metrics: Mapping[str, float]) -> None:
        """Print one line and pass the metrics on."""
        self._shown.tell(metrics, f"seed {self._seed}: ")
        self._on_epoch(metrics)


class _Said(logging.Handler):
    """Hands the text of what is logged to a function."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())
