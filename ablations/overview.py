"""One page over several matrices: a table of each, every claim with its verdict, and where the numbers come from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.markdown import escape, table
from ablations.numbers import MISSING, difference, spread
from ablations.report_data import ReportData, metric_name
from ablations.report_sections import judged_by
from ablations.running import Finished
from ablations.union import shared_cells, sharing
from altformer.files import write_text
from experiments.compose import profile_layer
from experiments.provenance import command


def write_overview(folder: Path, union: Finished, matrices: Sequence[Finished]) -> Path:
    """Write ``summary.md`` into the union's folder; returns its path."""
    path = folder / "summary.md"
    write_text(path, "\n\n".join(_sections(folder, union, matrices)) + "\n")
    return path


def _sections(folder: Path, union: Finished, matrices: Sequence[Finished]) -> Iterator[str]:
    report, plans = union.report, [one.plan for one in matrices]
    marker = f"> **{escape(report.marker[:1].upper() + report.marker[1:])}.**" if report.marker else ""
    yield f"# {escape(report.title)}"
    if marker:
        yield marker
    if union.plan.profile == "quick":
        yield _what_quick_means()
    cells = sum(len(plan.cells) for plan in plans)
    yield (
        f"{len(plans)} matrices with {cells} cells, {len(sharing(plans))} of them distinct. Cells that "
        f"several matrices have, and that were trained once: {len(shared_cells(plans))}."
    )
    yield from _claims(matrices, marker)
    for one in matrices:
        yield from _matrix(folder, one, marker)
    yield "## Provenance"
    yield table(["what", "value"], [("command", command()), *(row for row in report.provenance if row[0] != "command")])


def _what_quick_means() -> str:
    """The profile in one sentence, from its file."""
    values = profile_layer("quick").values
    shown = ", ".join(f"{path.rpartition('.')[2]} {_plain(value)}" for path, value in values.items())
    return escape(
        f"Quick is sized for a CPU: {shown}, except where a matrix or --set says otherwise. That is a small "
        "model after a few steps of training, scored on some of the windows: it shows that everything runs, and "
        "at most large effects, never how good a fully trained model is."
    )


def _plain(value: object) -> str:
    return ", ".join(f"{name} {item}" for name, item in value.items()) if isinstance(value, dict) else str(value)


def _claims(matrices: Sequence[Finished], marker: str) -> Iterator[str]:
    rows = [
        (one.plan.matrix.name, claim.text, claim.arm, claim.verdict) for one in matrices for claim in one.report.claims
    ]
    if not rows:
        return
    yield "## Claims"
    if marker:
        yield marker
    metrics = {one.report.reported: one.report for one in matrices if one.report.claims}
    yield " ".join(["Each claim of the matrix files beside what the cells say.", *map(judged_by, metrics.values())])
    yield table(["matrix", "claim", "arm", "verdict"], rows)


def _matrix(folder: Path, one: Finished, marker: str) -> Iterator[str]:
    report = one.report
    link = Path(os.path.relpath(one.plan.folder / "report.md", folder)).as_posix()
    yield f"## {escape(one.plan.matrix.title or one.plan.matrix.name)}"
    yield f"Matrix [{escape(one.plan.matrix.name)}]({link}). {escape(report.summary)}"
    if marker:
        yield marker
    yield _arms(report)


def _arms(report: ReportData) -> str:
    against = f"difference in {metric_name(report.reported)} [95 %]"
    header = ["arm", "parameters", "seeds", "val MAE", "test MAE", against, "verdict"]
    rows = [
        [
            arm.name,
            MISSING if arm.params is None else f"{arm.params:,}",
            str(arm.done) if arm.done == arm.planned else f"{arm.done} of {arm.planned}",
            spread(arm.metrics["val_mae"]),
            spread(arm.metrics["test_mae"]),
            difference(arm.comparison),
            f"{arm.verdict} ({arm.note})" if arm.note else arm.verdict,
        ]
        for arm in (*report.arms, *report.aliases)
    ]
    return table(header, rows, numbers=range(1, len(header) - 1))
