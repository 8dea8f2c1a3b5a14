"""The report of a tuning phase: every candidate of each arm, and which is chosen."""

from __future__ import annotations

from pathlib import Path

from ablations.candidates import Tuned
from ablations.reports.data import ReportData
from ablations.reports.markdown_text import escape, table
from ablations.reports.numbers import number
from altformer.files import write_text
from experiments.fields import leaf


def write_candidates(choice: Tuned, data: ReportData, folder: Path) -> Path:
    """Write ``report.md``: the candidates by validation alone, since the test set has no say in it."""
    fields = [leaf(name) for name in choice.lists]
    rows = [
        [
            arm,
            *map(str, one.values.values()),
            one.status,
            number(one.validation, 4),
            "chosen" if one is choice.best(arm) else "",
        ]
        for arm, tried in choice.tried.items()
        for one in tried
    ]
    texts = [*filter(None, [data.marker]), *choice.warnings, choice.note]
    parts = [f"# {escape(data.title)}", *map(escape, texts)]
    parts.append(table(["arm", *fields, "status", choice.objective, ""], rows, numbers=[len(fields) + 2]))
    path = folder / "report.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path
