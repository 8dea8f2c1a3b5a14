"""A run's numbers for Prometheus: a listener in the driver tells them to Ray, which offers them on every node.

Every metric is a gauge, exported by Ray with `ray_` before its name. Ray forgets a gauge that has not been told for two
of its report intervals (20 s unless configured), so all values are told again every few seconds, and what is told no
longer is gone soon after: speeds of cells that have left their slot, and everything when the run is over.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, get_args

from cluster.tally import Tally
from cluster.work import Ended, Fault, FaultKind, Outcome, Work

logger = logging.getLogger(__name__)

#: Half of Ray's own report interval, so that none of its reports lacks a value.
BEAT_SECONDS = 5.0

#: Series of a matrix stay bounded: of cells that have ended, those that did so last keep telling their objective.
KEPT_CELLS = 200

TAG_LETTERS = 80

#: The statuses that cells are counted by, and those of a tally that each stands for. All are always told, also as 0.
STATUSES: Mapping[str, tuple[str, ...]] = {
    "queued": ("waiting", "retried"),
    "running": ("running",),
    "paused": ("paused",),
    "done": ("done",),
    "stopped": ("stopped",),
    "diverged": ("diverged",),
    "failed": ("failed",),
    "interrupted": ("interrupted",),
}

#: name -> what it is, and its tags besides `matrix`
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "altformer_cells": ("Cells of the run by status", ("status",)),
    "altformer_slots": ("Cells that can run at once", ()),
    "altformer_retries": ("Attempts at cells of the run that were followed by another, by what ended them", ("fault",)),
    "altformer_objective": ("Latest value of the metric that arms are compared by", ("metric", "arm", "seed")),
    "altformer_epoch": ("The last epoch that a running or paused cell has ended", ("arm", "seed")),
    "altformer_epochs_planned": ("The epochs that a running or paused cell is to have at most", ("arm", "seed")),
    "altformer_samples_per_second": ("Training samples a second in the last epoch of a running cell", ("arm", "seed")),
    "altformer_epoch_seconds": ("Seconds that the last epoch of a running cell took", ("arm", "seed")),
    "altformer_gpu_memory_bytes": ("The most that tensors of a running cell have taken on a GPU", ("arm", "seed")),
}

# Of what a cell reports: gauge by key. Told while the cell has its slot.
_WHILE_IT_RUNS = {
    "samples_per_second": "altformer_samples_per_second",
    "epoch_seconds": "altformer_epoch_seconds",
    "gpu_memory_bytes": "altformer_gpu_memory_bytes",
}


@dataclass(frozen=True)
class Sample:
    """A gauge's value under its tags."""

    gauge: str
    tags: Mapping[str, str]
    value: float


Tell = Callable[[Sequence[Sample]], None]


class Metrics(Tally):
    """Tells how a run goes, as of `matrix`, from its start to its end; `metric` is what arms are compared by.

    What cannot be told is logged once: watching never stops training.
    """

    def __init__(self, matrix: str, metric: str = "val_mae", tell: Tell | None = None) -> None:
        super().__init__(metric)
        self._matrix = label(matrix)
        self._tell = tell or RayGauges()
        self._latest: dict[str, dict[str, float]] = {}  # by cell, of what it reported last what is told
        self._ended: dict[str, None] = {}  # cells, those that ended last at the end
        self._lost: dict[str, int] = dict.fromkeys(get_args(FaultKind), 0)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="metrics")
        self._is_broken = False

    def matrix_started(self, works: Sequence[Work], slots: int) -> None:
        """Begin to tell."""
        with self._lock:
            super().matrix_started(works, slots)
        self._thread.start()

    def slots_changed(self, slots: int) -> None:
        """More or fewer cells at once."""
        with self._lock:
            super().slots_changed(slots)

    def cell_started(self, work: Work) -> None:
        """It runs."""
        with self._lock:
            super().cell_started(work)

    def cell_epoch(self, work: Work, metrics: Mapping[str, Any]) -> None:
        """Keep what is told of an epoch."""
        with self._lock:
            super().cell_epoch(work, metrics)
            found = [(key, metrics.get(key)) for key in (self.metric, *_WHILE_IT_RUNS)]
            self._latest[work.key] = {key: float(value) for key, value in found if _is_finite(value)}

    def cell_paused(self, work: Work) -> None:
        """It waits at a rung."""
        with self._lock:
            super().cell_paused(work)

    def cell_retried(self, work: Work, fault: Fault, retries: int) -> None:
        """Count the lost attempt."""
        with self._lock:
            super().cell_retried(work, fault, retries)
            self._lost[fault.kind] += 1

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """What it found last stays for a while; of a cell without a result nothing does."""
        with self._lock:
            super().cell_ended(work, ended)
            if ended.status not in ("done", "stopped"):
                self._latest.pop(work.key, None)
                return
            self._ended[work.key] = None
            if len(self._ended) > KEPT_CELLS:
                first = next(iter(self._ended))
                del self._ended[first]
                self._latest.pop(first, None)

    def matrix_ended(self, outcome: Outcome) -> None:
        """Tell a last time how cells have ended, and no more."""
        self._over.set()
        self._thread.join(BEAT_SECONDS)

    def samples(self) -> list[Sample]:
        """Everything that is told now."""
        with self._lock:
            return [*self._of_run(), *(sample for key in self.rows for sample in self._of_cell(key))]

    def _of_run(self) -> Iterator[Sample]:
        counts = self.counts()
        for status, those in STATUSES.items():
            yield self._sample("altformer_cells", sum(counts.get(each, 0) for each in those), status=status)
        yield self._sample("altformer_slots", self.slots)
        for fault, count in self._lost.items():
            yield self._sample("altformer_retries", count, fault=fault)

    def _of_cell(self, key: str) -> Iterator[Sample]:
        row, latest = self.rows[key], self._latest.get(key, {})
        cell = {"arm": label(row.work.arm), "seed": label(row.work.tags.get("seed", ""))}
        if self.metric in latest:
            yield self._sample("altformer_objective", latest[self.metric], metric=label(self.metric), **cell)
        if row.status in ("running", "paused"):
            yield self._sample("altformer_epoch", row.epoch, **cell)
            if row.work.epochs is not None:
                yield self._sample("altformer_epochs_planned", row.work.epochs, **cell)
        if row.status == "running":
            for name, gauge in _WHILE_IT_RUNS.items():
                if name in latest:
                    yield self._sample(gauge, latest[name], **cell)

    def _sample(self, gauge: str, value: float, **tags: str) -> Sample:
        return Sample(gauge, {"matrix": self._matrix, **tags}, float(value))

    def _beat(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._over.is_set()
            try:
                self._tell(self.samples())
            except Exception:
                if not self._is_broken:
                    self._is_broken = True
                    logger.exception("the metrics of the run cannot be told; the run goes on")
            self._over.wait(BEAT_SECONDS)


class RayGauges:
    """Tells samples to this process's Ray."""

    def __init__(self) -> None:
        self._gauges: dict[str, Any] = {}

    def __call__(self, samples: Sequence[Sample]) -> None:
        """Set every gauge; Ray must have been initialized."""
        for sample in samples:
            self._gauge(sample.gauge).set(sample.value, tags=dict(sample.tags))

    def _gauge(self, name: str) -> Any:
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            text, tags = GAUGES[name]
            self._gauges[name] = Gauge(name, description=text, tag_keys=("matrix", *tags))
        return self._gauges[name]


def label(text: str) -> str:
    """A name as a tag's value: Ray takes ASCII only, and Prometheus keeps every value it has ever seen.

    A name that had to be changed or shortened ends in six digits of its hash, so that two names stay two.
    """
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
    if plain == text and len(text) <= TAG_LETTERS:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{plain[: TAG_LETTERS - 7]}~{digest[:6]}"


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
