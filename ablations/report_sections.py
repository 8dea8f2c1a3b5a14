"""The sections of a report that only some matrices have: claims, published numbers, effects of two factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ablations.markdown import escape, table
from ablations.numbers import MISSING, difference, p_value, spread
from ablations.published import PublishedRow
from ablations.report_data import ReportData, metric_name
from ablations.statistics import MIN_SEEDS, Comparison


def claims_section(data: ReportData, marker: str) -> Iterator[str]:
    """Each claim of the matrix file with the verdict computed from the cells."""
    if not data.claims:
        return
    yield "## Claims"
    yield f"Each claim of the matrix file beside what the cells of this report say. {judged_by(data)}"
    yield table(["claim", "arm", "verdict"], [(claim.text, claim.arm, claim.verdict) for claim in data.claims])
    if marker:
        yield marker


def judged_by(data: ReportData) -> str:
    """By which metric claims are judged, and of what the guide's numbers in their texts are; in Markdown."""
    return (
        f"*better*, *worse* and *best* are judged by the {escape(metric_name(data.reported))}. Numbers in a text are "
        "those of whoever claims it: the guide's are initial MAE where it says nothing else, in its own scoring, which "
        "counts missing readings as true."
    )


def published_section(data: ReportData, marker: str) -> Iterator[str]:
    """Our numbers beside the published ones of the same data set."""
    if not data.published:
        return
    header = ["model", "whose", *(f"MAE {label}" for _, label in data.horizons), "RMSE", "MAPE %", "parameters"]
    rows = [row for one in data.published for row in _published_rows(one)]
    yield "## Beside the published numbers"
    yield "The published numbers are those of the matrix file; ours are mean ± standard deviation over seeds."
    yield table(header, rows, numbers=range(2, len(header)))
    if marker:
        yield marker


def effects_section(data: ReportData, marker: str) -> Iterator[str]:
    """Main effects and interaction contrasts of a grid of two fields."""
    if not data.effects:
        return
    rows = [
        (
            effect.kind,
            effect.name,
            _effect(effect.found),
            MISSING if effect.found.p_holm is None else p_value(effect.found.p_holm),
            f"{effect.verdict} ({effect.found.note})" if effect.found.note else effect.verdict,
        )
        for effect in data.effects
    ]
    yield "## Main effects and interaction"
    yield (
        f"In {escape(metric_name(data.reported))}; below zero is better. A main effect is a level's per-seed "
        "difference to the baseline's level, averaged over the levels of the other field. An interaction is a "
        "difference of differences: what two changes do together beyond the sum of what each does alone. Means over "
        f"the seeds that are done in all arms, with 95 % t intervals from {MIN_SEEDS} seeds on; p after Holm's "
        "correction over this table."
    )
    yield table(["what", "levels", "mean [95 %]", "p (Holm)", "verdict"], rows, numbers=[2, 3])
    if marker:
        yield marker


def _effect(found: Comparison) -> str:
    """The mean with its interval; the mean alone where there are too few seeds for more."""
    return difference(found if len(found.seeds) >= MIN_SEEDS else replace(found, low=None, high=None))


def _published_rows(row: PublishedRow) -> list[list[str]]:
    rows = []
    if row.theirs:
        theirs = [MISSING if value is None else f"{value:.2f}" for value in row.theirs]
        rows.append([row.model, "published", *theirs, row.their_parameters or MISSING])
    if row.arm is not None:
        counted = MISSING if row.our_parameters is None else f"{row.our_parameters:,}"
        rows.append([row.model, f"ours, arm {row.arm}", *(spread(summary, 2) for summary in row.ours), counted])
    return rows
