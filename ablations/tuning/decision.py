"""What a campaign decides, from validation alone: which candidate of a stage is best, and which stage follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ablations.tuning.log import JsonLines
from ablations.tuning.stages import Gate
from experiments import provenance


@dataclass(frozen=True)
class Decision:
    """One decision: what was best by which number, what follows, and why.

    ``candidates`` holds each one's value on validation (None: it has none, or may not be compared); ``marker`` says
    why thresholds do not count here; ``cells`` are the hashes of the cells that the decision rests on.
    """

    stage: str
    metric: str
    candidates: Mapping[str, float | None]
    winner: str | None
    value: float | None
    thresholds: Mapping[str, float] | None
    path: str
    reason: str
    marker: str = ""
    cells: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The decision in one line."""
        best = f"{self.winner} is best, {self.metric} {self.value:.4f}" if self.value is not None else "nothing is best"
        marker = f" [{self.marker}]" if self.marker else ""
        return f"Decision after {self.stage}: {best}; next: {self.path}, since {self.reason}{marker}"


class DecisionLog:
    """``decisions.jsonl``: every decision once, however often the campaign is started again."""

    def __init__(self, log: JsonLines) -> None:
        self._log = log

    def add(self, decision: Decision) -> None:
        """Append the decision, unless the last one of its stage was the same."""
        entry = {**asdict(decision), "cells": list(decision.cells)}
        before = [known for known in self._log.read() if known.get("stage") == decision.stage]
        if before and {key: value for key, value in before[-1].items() if key != "time"} == entry:
            return
        self._log.append({**entry, "time": provenance.now()})


def best_of(candidates: Mapping[str, float | None]) -> tuple[str | None, float | None]:
    """The candidate of the least value, the first of equals; (None, None) where none has a finite one."""
    finite = {name: value for name, value in candidates.items() if value is not None and math.isfinite(value)}
    if not finite:
        return None, None
    best = min(finite, key=finite.__getitem__)
    return best, finite[best]


def through_gate(gate: Gate, value: float | None, marker: str) -> tuple[str, str]:
    """The stage behind a gate, and why; with a marker the thresholds are not meant for the value.

    Both thresholds belong to the middle. No value at all (everything diverged) is as bad as a large one.
    """
    low, high = gate.below.value, gate.above.value
    if value is None or not math.isfinite(value):
        by_number, why = gate.above.then, f"no arm has a value, which counts as more than {high:g}"
    elif value < low:
        by_number, why = gate.below.then, f"{value:.4f} < {low:g}"
    elif value > high:
        by_number, why = gate.above.then, f"{value:.4f} > {high:g}"
    else:
        by_number, why = gate.between, f"{low:g} <= {value:.4f} <= {high:g}"
    if not marker:
        return by_number, why
    return gate.otherwise or gate.between, f"the thresholds do not count here (by them: {by_number}, {why})"


def not_meant(gate: Gate, metric: str, profile: str, dataset: str, loss: str) -> str:
    """Why the gate's thresholds do not count for numbers of this kind; empty where they do."""
    if profile == "quick":
        return "quick: the guide's thresholds are not meant for these numbers"
    if metric != "val_mae_unmasked" or loss != "mae_unmasked":
        return f"{metric} after training with {loss}: the guide's thresholds are of mae_unmasked in both"
    if gate.dataset is not None and dataset != gate.dataset:
        return f"{dataset}: the guide's thresholds are of {gate.dataset}"
    return ""


def thresholds(gate: Gate | None) -> dict[str, Any] | None:
    """The gate's numbers, for the log."""
    return None if gate is None else {"below": gate.below.value, "above": gate.above.value}
