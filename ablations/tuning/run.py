"""A campaign from its first stage to its last: run, decide, log, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ablations.tuning.campaign import Campaign
from ablations.tuning.choices import run_arms, run_search
from ablations.tuning.goal_verdicts import goal_sentences, goals_table
from ablations.tuning.outcome import Running, RunPlan, StageOutcome
from ablations.tuning.plan import END
from ablations.tuning.report import write_campaign_report
from ablations.tuning.winner_stages import run_datasets, run_distillation, run_ensemble, run_postprocessing

RUN: dict[str, Callable[[Running, str, Any], StageOutcome]] = {
    "arms": run_arms,
    "search": run_search,
    "ensemble": run_ensemble,
    "distillation": run_distillation,
    "postprocessing": run_postprocessing,
    "datasets": run_datasets,
}


def run_campaign(campaign: Campaign, run_plan: RunPlan) -> int:
    """Run the stages that the decisions lead to.

    What is settled is only read, and a decision in the log stands as long as the stage has the same candidates and
    cells, so a second run goes the same way.

    Returns 0 at the end of the plan, else the exit code of the stage that has none of its decision yet: 1 where a cell
    failed, 130 or 143 after a signal.
    """
    running = Running.of(campaign, run_plan)
    outcomes: list[StageOutcome] = []
    name = next(iter(campaign.tuning.stages))
    while name != END:
        stage = campaign.tuning.stages[name]
        print(f"\n== {stage.title or name} (stage {name}) ==", flush=True)
        outcome = RUN[stage.type](running, name, stage)
        outcomes.append(outcome)
        if outcome.winner is not None:
            running.winner = outcome.winner
        if outcome.decision is not None:
            running.decisions.add(outcome.decision)
            print(outcome.decision.sentence, flush=True)
        for note in outcome.notes:
            print(note, flush=True)
        if running.trained:  # else the report of the end stands already
            write_campaign_report(running, outcomes)
        if outcome.code:
            print(f"Stage {name} is not complete, so nothing is decided yet; the same command goes on from here.")
            return outcome.code
        name = outcome.decision.path if outcome.decision else campaign.tuning.following(name)
    write_campaign_report(running, outcomes)
    for sentence in goal_sentences(goals_table(running, outcomes)):
        print(sentence, flush=True)
    return 0
