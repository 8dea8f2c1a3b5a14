"""One page over several matrices: a table of each, every claim with its verdict, and where the numbers come from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.arm_results import metric_name
from ablations.reports.blocks import as_sentence
from ablations.reports.data import ReportData
from ablations.reports.facts import Facts
from ablations.reports.markdown_text import escape, inline, table
from ablations.reports.numbers import difference, spread, whole
from ablations.reports.sections import judged_by
from altformer.files import write_text
from experiments.compose import profile_layer
from experiments.fields import leaf

if TYPE_CHECKING:
    from ablations.running import Finished


@dataclass(frozen=True)
class Chapter:
    """One matrix on the page: its name and heading, the hashes of its cells and its report, which is in ``folder``."""

    name: str
    heading: str
    folder: Path
    hashes: tuple[str, ...]
    report: ReportData


@dataclass(frozen=True)
class Cover:
    """What the page says of all matrices together; ``profile`` is None where they have several."""

    title: str
    marker: str
    profile: str | None
    provenance: Facts


def write_overview(folder: Path, union: Finished, matrices: Sequence[Finished]) -> Path:
    """Write ``summary.md`` over matrices that have just been run into their union's folder; returns its path."""
    report = union.report
    chapters = [
        Chapter(
            one.plan.matrix.name,
            one.plan.matrix.heading,
            one.plan.folder,
            tuple(at.cell.hash for at in one.plan.cells),
            one.report,
        )
        for one in matrices
    ]
    return write_summary(folder, Cover(report.title, report.marker, union.plan.profile, report.provenance), chapters)


def write_summary(folder: Path, cover: Cover, chapters: Sequence[Chapter]) -> Path:
    """Write ``summary.md`` over several matrices into a folder; returns its path."""
    path = folder / "summary.md"
    write_text(path, "\n\n".join(_sections(folder, cover, chapters)) + "\n")
    return path


def _sections(folder: Path, cover: Cover, chapters: Sequence[Chapter]) -> Iterator[str]:
    marker = f"> **{escape(as_sentence(cover.marker))}**" if cover.marker else ""
    yield f"# {escape(cover.title)}"
    if marker:
        yield marker
    if cover.profile == "quick":
        yield _what_quick_means()
    matrices_of = Counter(key for chapter in chapters for key in set(chapter.hashes))
    yield (
        f"{len(chapters)} matrices with {sum(len(chapter.hashes) for chapter in chapters)} cells, {len(matrices_of)} "
        "of them distinct. Cells that several matrices have, and that were trained once: "
        f"{sum(count > 1 for count in matrices_of.values())}."
    )
    yield from _claims(chapters, marker)
    for chapter in chapters:
        yield from _matrix(folder, chapter, marker)
    yield "## Provenance"
    yield table(["what", "value"], cover.provenance)


def _what_quick_means() -> str:
    """The profile in one sentence, from its file."""
    values = profile_layer("quick").values
    shown = ", ".join(f"{leaf(path)} {_plain(value)}" for path, value in values.items())
    return escape(
        f"Quick is sized for a CPU: {shown}, except where a matrix or --set says otherwise. That is a small "
        "model after a few steps of training, scored on some of the windows: it shows that everything runs, and "
        "at most large effects, never how good a fully trained model is."
    )


def _plain(value: object) -> str:
    return ", ".join(f"{name} {item}" for name, item in value.items()) if isinstance(value, dict) else str(value)


def _claims(chapters: Sequence[Chapter], marker: str) -> Iterator[str]:
    rows = [(one.name, claim.text, claim.arm, claim.verdict) for one in chapters for claim in one.report.claims]
    if not rows:
        return
    yield "## Claims"
    if marker:
        yield marker
    metrics = {one.report.reported: one.report for one in chapters if one.report.claims}
    yield " ".join(
        [
            "Each claim of the matrix files beside what the cells say.",
            *(inline(judged_by(one)) for one in metrics.values()),
        ]
    )
    yield table(["matrix", "claim", "arm", "verdict"], rows)


def _matrix(folder: Path, chapter: Chapter, marker: str) -> Iterator[str]:
    report = chapter.report
    link = Path(os.path.relpath(chapter.folder / "report.md", folder)).as_posix()
    yield f"## {escape(chapter.heading)}"
    yield f"Matrix [{escape(chapter.name)}]({link}). {escape(report.summary)}"
    if marker:
        yield marker
    yield _arms(report)


def _arms(report: ReportData) -> str:
    against = f"difference in {metric_name(report.reported)} [95 %]"
    header = ["arm", "parameters", "seeds", "val MAE", "test MAE", against, "verdict"]
    rows = [
        [
            arm.name,
            whole(arm.params),
            arm.seeds_text,
            spread(arm.metrics["val_mae"]),
            spread(arm.metrics["test_mae"]),
            difference(arm.comparison),
            arm.verdict_text,
        ]
        for arm in (*report.arms, *report.aliases)
    ]
    return table(header, rows, numbers=range(1, len(header) - 1))
