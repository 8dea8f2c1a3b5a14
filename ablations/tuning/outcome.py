"""What a stage of a campaign is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ablations.plan import Plan
from ablations.running import Finished
from ablations.tuning.campaign import Campaign, Winner
from ablations.tuning.decision import Decision, DecisionLog
from ablations.tuning.ledger import Ledger
from ablations.tuning.log import JsonLines
from ablations.tuning.stages import Stage
from ablations.tuning.told import ToldLog

DECISIONS, TOLD = "decisions.jsonl", "told.jsonl"

#: Runs what is not settled of a plan and reports on it.
RunPlan = Callable[[Plan], Finished]


@dataclass(frozen=True)
class Table:
    """A table of plain texts for the campaign's report; ``note`` says what its numbers are."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
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
