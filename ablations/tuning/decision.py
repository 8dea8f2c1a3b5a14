"""What a campaign decides, from validation alone: which candidate of a stage is best, and which stage follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ablations.tuning.log import Entry, JsonLines
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

    def standing(self, decision: Decision) -> Decision:
        """The logged decision of the same stage, candidates and cells, which stands; else the given one, made anew.

        What a stage saw may have changed since: a cell that it saw stopped early, another stage may have trained to its
        end. Decided from that again, a campaign would go another way than the one whose cells it has.
        """
        for entry in reversed(self._log.read()):
            same = entry.get("stage") == decision.stage and entry.get("metric") == decision.metric
            if same and list(entry["candidates"]) == list(decision.candidates) and _cells(entry) == decision.cells:
                known = {key: value for key, value in entry.items() if key != "time"}
                return Decision(**{**known, "cells": _cells(entry)})
        return decision

    def add(self, decision: Decision) -> None:
        """Append the decision, unless the last one of its stage was the same."""
        entry = {**asdict(decision), "cells": list(decision.cells)}
        before = [known for known in self._log.read() if known.get("stage") == decision.stage]
        if before and {key: value for key, value in before[-1].items() if key != "time"} == entry:
            return
        self._log.append({**entry, "time": provenance.now()})


def _cells(entry: Entry) -> tuple[str, ...]:
    return tuple(entry["cells"])


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


@dataclass(frozen=True)
class Kind:
    """What a number is of: how it is scored, on what, and how the model was trained (``epochs`` as configured)."""

    metric: str
    profile: str
    dataset: str
    loss: str
    epochs: int
    steps_per_epoch: int | None


def not_meant(kind: Kind, dataset: str | None, epochs: int | None) -> str:
    """Why the guide's thresholds do not count for numbers of a kind; empty where they do.

    They are of ``dataset`` and after ``epochs`` whole epochs (None: of any).
    """
    if kind.profile == "quick":
        return "quick: the guide's thresholds are not meant for these numbers"
    if kind.metric != "val_mae_unmasked" or kind.loss != "mae_unmasked":
        return f"{kind.metric} after training with {kind.loss}: the guide's thresholds are of mae_unmasked in both"
    if dataset is not None and kind.dataset != dataset:
        return f"{kind.dataset}: the guide's thresholds are of {dataset}"
    if kind.steps_per_epoch is not None:
        return f"steps_per_epoch {kind.steps_per_epoch}: the guide's thresholds are of whole epochs"
    if epochs is not None and kind.epochs < epochs:
        return f"epochs {kind.epochs}: the guide's thresholds are of {epochs}"
    return ""


def thresholds(gate: Gate | None) -> dict[str, Any] | None:
    """The gate's numbers, for the log."""
    return None if gate is None else {"below": gate.below.value, "above": gate.above.value}
