"""What a stage of a campaign is given and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ablations.plan import Plan
from ablations.running import Finished
from ablations.tuning.campaign import Campaign, Winner
from ablations.tuning.decision import Decision, DecisionLog
from ablations.tuning.ledger import Ledger
from ablations.tuning.log import JsonLines
from ablations.tuning.search import Proposal, Result
from ablations.tuning.stages import Stage

DECISIONS, TOLD, REPORT = "decisions.jsonl", "told.jsonl", "report.md"

#: Runs what is not settled of a plan and reports on it.
RunPlan = Callable[[Plan], Finished]


@dataclass(frozen=True)
class Table:
    """A table of plain texts for the campaign's report; ``note`` says what its numbers are."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class StageOutcome:
    """How a stage ended. With a ``code`` other than 0 (a cell failed, a signal) there is no decision yet."""

    stage: str
    code: int = 0
    decision: Decision | None = None
    winner: Winner | None = None  # None: the one before stays
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    reports: tuple[Path, ...] = ()  # files to read on in


@dataclass
class Running:
    """A campaign under way: the winner so far, its logs, and what stages need to go on."""

    campaign: Campaign
    run_plan: RunPlan
    decisions: DecisionLog
    told: ToldLog
    ledger: Ledger
    winner: Winner = field(default_factory=Winner)
    trained: bool = False  # whether anything has been run yet; else the campaign is only read

    @classmethod
    def of(cls, campaign: Campaign, run_plan: RunPlan) -> Running:
        """A campaign with its logs where they belong."""
        folder = campaign.folder
        decisions, told = (JsonLines(folder / name) for name in (DECISIONS, TOLD))
        ledger = Ledger(campaign.out.resolve(), folder.name)
        return cls(campaign, run_plan, DecisionLog(decisions), ToldLog(told), ledger)

    def run(self, stage: str, plan: Plan) -> Finished:
        """Run a plan of a stage; the ledger has its cells before they run, and those that are done afterwards."""
        self.trained = self.trained or bool(plan.to_run)
        self.ledger.plan_cells(stage, plan.to_run, plan.data.name)
        finished = self.run_plan(plan)
        self.ledger.add_cells(stage, finished.plan.cells)
        return finished

    def start_of(self, stage: Stage) -> Winner:
        """What the arms of a stage change."""
        return Winner() if stage.start == "base" else self.winner


class ToldLog:
    """``told.jsonl``: the result of every proposal as the search heard it first.

    The records alone do not say it for ever: a cell that a search saw stopped early, a later stage may have finished.
    """

    def __init__(self, log: JsonLines) -> None:
        self._log = log

    def result(self, stage: str, proposal: Proposal, cells: Sequence[str], now: Callable[[], Result]) -> Result:
        """What was told of a proposal run as these cells; else what it has come to now, which is noted."""
        key = {"stage": stage, "proposal": proposal.name, "settings": proposal.settings, "cells": list(cells)}
        for entry in self._log.read():
            if {name: entry.get(name) for name in key} == key:
                return Result(entry["status"], entry["value"], entry["epoch"])
        found = now()
        if found.value is not None and not math.isfinite(found.value):
            found = replace(found, value=None)  # which the search takes alike
        self._log.append({**key, **asdict(found)})
        return found
