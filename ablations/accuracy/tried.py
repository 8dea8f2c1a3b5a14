"""``LOG.md``: what was tried and did not help, one line each; what is written by hand stands above a marker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.accuracy.page_tables import commit_of, hardware_of, status_of
from ablations.accuracy.steps import AccuracyCampaign, Task
from ablations.reports.markdown_text import escape
from ablations.tuning.campaign import field_names
from altformer.files import write_text

LOG = "LOG.md"
MARKER = "<!-- Below: written by altformer campaign --publish. Above: by hand, and kept. -->"
OPENING = f"""# What was tried and did not help

Findings by hand stand here, the newest first; candidates of the accuracy campaigns that were no better on validation
than what their round started from follow below, with what they cost.

{MARKER}
"""
_KEY = re.compile(r"\[([0-9a-f]{16})\]$")


def write_tried(campaigns: Sequence[AccuracyCampaign], folder: Path) -> Path:
    """Bring the log up to date: lines of candidates whose cells the campaigns know are written anew, others stay.

    So what was tried is not forgotten when it is taken out of a plan.
    """
    path = folder / LOG
    text = path.read_text(encoding="utf-8") if path.is_file() else OPENING
    if MARKER not in text:
        text = f"{text.rstrip()}\n\n{MARKER}\n"
    by_hand, _, below = text.partition(MARKER)
    found = {key: line for campaign in campaigns for key, line in _entries(campaign)}
    kept = [line for line in below.splitlines() if (key := _KEY.search(line)) and key[1] not in found]
    lines = [*kept, *filter(None, found.values())]
    write_text(path, by_hand + MARKER + "\n" + "".join(f"\n{line}" for line in lines) + ("\n" if lines else ""))
    return path


def _entries(campaign: AccuracyCampaign) -> Iterator[tuple[str, str]]:
    """The hash of each candidate's first cell with its line, which is empty for one that was better than the start."""
    for step in campaign.steps():
        if not step.name.startswith("tune") or step.provisional:
            continue
        start, *candidates = step.tasks
        for task in candidates:
            if not task.open_cells and start.val is not None:
                helped = task.val is not None and task.val < start.val
                yield task.results[0].cell_hash, "" if helped else _line(campaign, task, start.val)


def _line(campaign: AccuracyCampaign, task: Task, start: float) -> str:
    record = task.cells[0].record or {}
    reached = status_of(task) if task.val is None else f"val MAE {task.val:.4f}, {task.val - start:+.4f}"
    seconds = sum(result.value("train_seconds") or 0.0 for result in task.results)
    cost = f"{seconds:.0f} s for {record.get('epochs')} epochs, {task.params:,} parameters, {hardware_of(record)}"
    what = f"{campaign.name}, {task.step}, {task.name} ({field_names(task.settings)}), {task.dataset}"
    text = f"{what}: {reached} against {start:.4f}; {cost}; commit {commit_of(record)}"
    return f"- {escape(text)} [{task.results[0].cell_hash}]"
