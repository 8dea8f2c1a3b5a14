"""The files of finished reports written anew from what their folders hold, and pages over several of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ablations.candidates import TUNING_SEED
from ablations.cells import TABLE, write_cells
from ablations.folders import short_id
from ablations.reported import Reported, read_reported
from ablations.reports.facts import provenance
from ablations.reports.files import write_report, write_tables
from ablations.reports.overview import Chapter, Cover, write_summary
from ablations.reports.paper_table import paper_table, write_paper_table
from altformer.errors import UserError

NAMED = 3  # so many matrices give their names to the folder of the page over them


def rebuild(folder: Path) -> list[Reported]:
    """Write all files of a matrix's report anew; returns the matrix, or each of those that the folder is over.

    UserError as ``read_reported``.
    """
    reported = read_reported(folder)
    if {result.seed for result in reported.results} == {TUNING_SEED}:
        raise UserError(f"{folder}: candidates for tuning, chosen by validation alone; the report is the matrix's own")
    write_cells(reported.folder / TABLE, reported.results)
    if not reported.members:
        write_report(reported.report, reported.folder)
        return [reported]
    write_tables(reported.report, reported.folder)
    matrices = [one for name in reported.members for one in rebuild(reported.folder.parent / name)]
    union = reported.report
    cover = Cover(union.title, union.marker, reported.info.profile, union.provenance)
    write_summary(reported.folder, cover, [_chapter(one, one.matrix.heading) for one in matrices])
    return matrices


def write_page(matrices: Sequence[Reported], folder: Path) -> Path:
    """Write ``summary.md`` over several matrices, and the table of their test errors, into a folder."""
    reports = [one.report for one in matrices]
    results = [result for one in matrices for result in one.results]
    commands = "; ".join(dict.fromkeys(one.info.command for one in matrices))
    profiles = {one.info.profile for one in matrices}
    datasets = list(dict.fromkeys(one.info.dataset for one in matrices))
    cover = Cover(
        title=f"{len(matrices)} matrices on {', '.join(datasets)}",
        marker=next((report.marker for report in reports if report.marker), ""),
        profile=next(iter(profiles)) if len(profiles) == 1 else None,
        provenance=provenance(results, replace(matrices[0].info, command=commands)),
    )
    write_paper_table(paper_table([(one.info.dataset, one.matrix.name, one.report) for one in matrices]), folder)
    return write_summary(folder, cover, [_chapter(one, one.report.title) for one in matrices])


def page_folder(matrices: Sequence[Reported]) -> Path:
    """Where the page over these very matrices goes unless another folder is named: beside the first of them."""
    short = short_id(sorted(str(one.folder) for one in matrices))
    slugs = list(dict.fromkeys(one.matrix.slug for one in matrices))
    name = "-".join(slugs) if len(slugs) <= NAMED else f"{len(slugs)}-matrices"
    return matrices[0].folder.parent / f"summary-{name}-{short}"


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a report in its folder, as far as they are there."""
    for name in ("report.md", "report.html", "report.tex", "summary.md", TABLE):
        if (folder / name).is_file():
            yield folder / name


def _chapter(one: Reported, heading: str) -> Chapter:
    hashes = tuple(result.cell_hash for result in one.results)
    return Chapter(one.matrix.name, heading, one.folder, hashes, one.report)
