"""The report of a campaign as Markdown: the way it took, every decision, every stage's numbers, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.cells import MISSING
from ablations.reports.blocks import as_sentence
from ablations.reports.markdown_text import escape, table
from ablations.reports.numbers import number
from ablations.tuning.campaign import field_names
from ablations.tuning.decision import Decision
from ablations.tuning.goal_verdicts import goals_table
from ablations.tuning.ledger import PLANNED
from ablations.tuning.outcome import REPORT, Running, StageOutcome, Table
from ablations.tuning.plan import END
from altformer.files import write_text
from experiments import provenance
from experiments.scores_table import QUICK_NOTE

ON_VALIDATION = (
    "Every choice was made on validation: arms, ways, sizes and parameters. Test numbers stand here because every cell "
    "that is done is scored on its test set once; nothing was chosen by them. Each reading is in the ledger of its "
    "data set, `test_ledger-<data set>.jsonl` beside this folder."
)


def write_campaign_report(running: Running, outcomes: Sequence[StageOutcome]) -> Path:
    """Write ``report.md`` of the stages so far into the campaign's folder; returns its path."""
    path = running.campaign.folder / REPORT
    text = "\n\n".join(_sections(running, outcomes)) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # a campaign that is only read changes nothing
        write_text(path, text)
    return path


def _sections(running: Running, outcomes: Sequence[StageOutcome]) -> Iterator[str]:
    campaign = running.campaign
    tuning = campaign.tuning
    yield f"# {escape(tuning.title or tuning.name)} on {escape(campaign.data.name)}, {campaign.profile} profile"
    if campaign.profile == "quick":
        yield f"> **{as_sentence(QUICK_NOTE)}**"
    if outcomes[-1].code:
        yield f"> **Not finished:** stage {escape(outcomes[-1].stage)} is not complete; the same command goes on."
    yield ON_VALIDATION
    yield "## Decisions"
    decisions = [outcome.decision for outcome in outcomes if outcome.decision]
    yield table(["stage", "best", tuning.objective, "thresholds", "next", "reason"], map(_row, decisions), numbers=[2])
    yield f"Winner: **{escape(running.winner.arm)}** ({escape(field_names(running.winner.settings) or 'the base')})."
    if goals := goals_table(running, outcomes):
        yield "## Goals"
        yield _table(goals)
    for outcome in outcomes:
        yield from _stage(running, outcome)
    yield "## Test sets read"
    yield _ledger(running)
    yield "## Provenance"
    yield table(["what", "value"], _provenance(running))


def _stage(running: Running, outcome: StageOutcome) -> Iterator[str]:
    title = running.campaign.tuning.stages[outcome.stage].title or outcome.stage
    yield f"## {escape(title)}"
    if outcome.decision:
        yield escape(outcome.decision.sentence)
    for found in outcome.tables:
        yield _table(found)
    yield from (escape(note) for note in outcome.notes)
    for file in outcome.reports:
        relative = file.relative_to(running.campaign.folder).as_posix()
        yield f"In full: [{escape(relative)}]({relative})"


def _row(decision: Decision) -> tuple[str, ...]:
    limits = decision.thresholds or {}
    between = " / ".join(f"{limit:g}" for limit in limits.values()) or MISSING
    reason = decision.reason + (f" ({decision.marker})" if decision.marker else "")
    following = MISSING if decision.path == END else decision.path
    return (decision.stage, decision.winner or MISSING, number(decision.value, 4), between, following, reason)


def _table(found: Table) -> str:
    lines = [table(found.header, found.rows, numbers=range(1, len(found.header)))]
    return "\n\n".join([*lines, *([escape(found.note)] if found.note else [])])


def _ledger(running: Running) -> str:
    counts: dict[tuple[str, str, str], int] = {}
    for entry in running.ledger.entries:
        key = (str(entry["stage"]), str(entry["dataset"]), str(entry["what"]))
        if entry["what"] != PLANNED:
            counts[key] = counts.get(key, 0) + 1
    rows = [(*key, str(count)) for key, count in counts.items()]
    first = "Readings that this campaign made first; those of other campaigns stand in the same ledgers."
    return f"{first}\n\n" + table(["stage (first)", "data set", "what", "readings"], rows, numbers=[3])


def _provenance(running: Running) -> list[tuple[str, str]]:
    campaign = running.campaign
    machine = campaign.machine
    commit = provenance.commit_text(provenance.git_state())
    return [
        ("data hash", campaign.data.identity),
        ("git commit", commit or provenance.installed_text(provenance.versions()) or "-"),
        ("device", f"{machine.device}, {machine.workers} worker(s) x {machine.threads} thread(s)"),
        ("--set", ", ".join(f"{name}={value}" for name, value in campaign.settings.items()) or "-"),
        *((name, version) for name, version in provenance.versions().items()),
    ]
