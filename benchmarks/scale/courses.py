"""What the cells of a scale simulation do: how long their epochs take, what they report, how they end.

All is drawn from the arm's name and the seed alone, so that a cell that is resumed elsewhere goes on as it would have.
e: epochs
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.work import Work
from experiments.cell import Record, failure_record

EFFECTS = (0.0, 0.0, 0.05, 0.1, 0.4)  # of an arm on its errors, one of them by chance
BEST = 3.0  # of a cell without an effect, in the metric's unit
SEED_SPREAD, EPOCH_SPREAD = 0.035, 0.01  # standard deviations of the error: between seeds, between epochs
ARM_PACE, CELL_PACE, EPOCH_PACE = 0.25, 0.05, 0.05  # of the logarithm of an epoch's seconds: how unequal they are
DIVERGING, FAILING = 0.01, 0.003  # shares of cells
STEPS = {"3": 0.88, "6": 1.0, "12": 1.17, "all": 1.0}  # errors by step ahead, as shares of the mean
PARAMS = 250_000


@dataclass(frozen=True)
class Course:
    """What a cell does if nobody stops it: the reports of its epochs, and how it ends after the last of them."""

    curve: list[dict[str, float]]
    end: str  # done, diverged or failed

    @property
    def seconds(self) -> list[float]:
        """Of each epoch."""
        return [epoch["epoch_seconds"] for epoch in self.curve]


def course_of(work: Work, epochs: int, epoch_seconds: float) -> Course:
    """A cell's course; an epoch takes `epoch_seconds` on average over arms."""
    seed = work.payload["cell"].config.seed
    of_arm = np.random.default_rng([zlib.crc32(work.arm.encode()), 1])
    rng = np.random.default_rng([zlib.crc32(work.arm.encode()), 2, seed])
    effect, slow = of_arm.choice(EFFECTS), of_arm.normal(0, ARM_PACE) - ARM_PACE**2 / 2
    if work.tags["baseline"] == "true":
        effect = 0.0
    slow += rng.normal(0, CELL_PACE)
    seconds = epoch_seconds * np.exp(slow + rng.normal(0, EPOCH_PACE, epochs))
    falling = 2.5 * np.exp(-8 * np.arange(1, epochs + 1) / epochs)
    error = BEST + effect + rng.normal(0, SEED_SPREAD) + falling + rng.normal(0, EPOCH_SPREAD, epochs)
    fate, last = rng.random(), int(rng.integers(1, epochs + 1))
    end = "diverged" if fate < DIVERGING else "failed" if fate < DIVERGING + FAILING else "done"
    reported = epochs if end == "done" else last - 1
    pairs = zip(error[:reported].tolist(), seconds[:reported].tolist(), strict=True)
    return Course([_report(epoch, mae, taken) for epoch, (mae, taken) in enumerate(pairs, 1)], end)


def _report(epoch: int, mae: float, seconds: float) -> dict[str, float]:
    """As altformer.train reports an epoch."""
    val = {
        f"val_{metric}" + ("" if step == "all" else f"_{step}"): mae * by * times
        for step, by in STEPS.items()
        for metric, times in (("mae", 1.0), ("rmse", 2.0), ("mape", 2.7))
    }
    rates = {"train_loss": mae + 0.1, "lr": 1e-3 / epoch, "samples_per_second": 24_000 / seconds}
    return {"epoch": epoch, **rates, **val, "val_mae_unmasked": mae + 6.9, "epoch_seconds": seconds}


def record_of(work: Work, status: str, curve: list[dict[str, float]]) -> Record:
    """The record that a cell's training would write, with all that a real one holds."""
    cell, started_by = work.payload["cell"], work.payload["started_by"]
    record = failure_record(cell, "", started_by)
    del record["fault"]
    best = min(curve, key=lambda epoch: epoch["val_mae"], default=None)
    return {
        **record,
        "status": status,
        "epochs": len(curve),
        "best_epoch": best and best["epoch"],
        "val": best and _scores(best["val_mae"]),
        "test": _scores(best["val_mae"] + 0.25) if best and status == "done" else None,
        "curve": curve,
        "params": PARAMS,
        "train_seconds": sum(epoch["epoch_seconds"] for epoch in curve),
        "stopped_by": started_by.get("scheduler") if status == "stopped" else None,
        "error": None,
    }


def _scores(mae: float) -> Mapping[str, Any]:
    by_step = {step: {"mae": mae * by, "rmse": 2 * mae * by, "mape": 2.7 * mae * by} for step, by in STEPS.items()}
    return {**by_step, "mae_unmasked": mae + 6.9, "windows": 191}
