"""What a stage of a campaign is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ablations.plan import Plan
from ablations.run import Finished
from ablations.tuning.campaign import Campaign, Winner
from ablations.tuning.decision import Decision
from ablations.tuning.ledger import Ledger
from ablations.tuning.stages import Stage

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
    """A campaign under way: the winner so far, and what stages need to go on."""

    campaign: Campaign
    run_plan: RunPlan
    ledger: Ledger
    winner: Winner = field(default_factory=Winner)
    trained: bool = False  # whether anything has been run yet; else the campaign is only read

    def run(self, stage: str, plan: Plan) -> Finished:
        """Run a plan of a stage and note in the ledger which test sets were read for it, also when it was cut short."""
        self.trained = self.trained or bool(plan.to_run)
        finished = self.run_plan(plan)
        self.ledger.add_cells(stage, finished.plan.cells)
        return finished

    def start_of(self, stage: Stage) -> Winner:
        """What the arms of a stage change."""
        return Winner() if stage.start == "base" else self.winner
