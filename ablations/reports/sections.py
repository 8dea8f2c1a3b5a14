"""The sections of a report that only some matrices have: claims, published numbers, two factors, stopped arms, ..."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ablations.arm_results import ArmResult, metric_name, unit_of
from ablations.cells import MISSING
from ablations.power import MIN_SEEDS
from ablations.reports.blocks import (
    Block,
    Code,
    Emphasis,
    Paragraph,
    Section,
    Span,
    Strong,
    as_sentence,
    paragraph,
    table,
)
from ablations.reports.data import ReportData
from ablations.reports.numbers import difference, number, p_value, signed, spread, whole
from ablations.reports.published import PublishedRow
from ablations.statistics import WILCOXON_MIN, WILCOXON_NOTE, Comparison
from ablations.stopped_arms import StoppedArm


def marker_of(data: ReportData) -> Iterator[Paragraph]:
    """The warning that stands beside every number, if there is one."""
    if data.marker:
        yield paragraph(Strong(as_sentence(data.marker)))


def stopped_section(data: ReportData) -> Iterator[Section]:
    """Where the arms stood that early stopping ended."""
    stopped = [(arm, arm.stopped) for arm in data.arms if arm.stopped]
    if not stopped:
        return
    if data.baseline is None:
        ends = [(arm.name, _epochs(at), str(arm.statuses["stopped"])) for arm, at in stopped]
        text = paragraph("Where the search left off with an arm, which has no test numbers and is not averaged.")
        yield Section("Arms that were stopped", (text, table(["arm", "stopped at epoch", "cells"], ends, [1, 2])))
        return
    rows = [
        (
            arm.name,
            _epochs(at),
            str(len(at.seeds)) if at.seeds else MISSING,
            number(at.value),
            number(at.baseline),
            signed(at.difference),
        )
        for arm, at in stopped
    ]
    what = metric_name(data.objective)
    header = ["arm", "stopped at epoch", "seeds", f"best {what} by then", "baseline's", "difference"]
    text = paragraph(
        f"The best {what} until the (first) epoch at which the arm was stopped, mean over the seeds that got there, "
        "beside the baseline's at the same epoch. The rule chose the moment because of this very difference, so it has "
        "no p value, and it says nothing about where the arm would have ended. Such an arm has no test numbers."
    )
    yield Section("Arms that were stopped", (text, table(header, rows, numbers=range(1, 6)), *marker_of(data)))


def _epochs(stopped: StoppedArm) -> str:
    return " to ".join(map(str, dict.fromkeys((stopped.epochs[0], stopped.epochs[-1]))))


def power_section(data: ReportData) -> Iterator[Section]:
    """What the seeds could show: equivalence, the smallest difference, the seeds for the one observed."""
    if not data.power:
        return
    compared = [(arm, arm.comparison) for arm in (*data.arms, *data.aliases) if arm.comparison]
    tested = [(arm, found) for arm, found in compared if found.p is not None]
    blocks: list[Block] = [paragraph(data.power)]
    if tested:
        blocks += _power_table(data, tested)
    yield Section("Equivalence and power", (*blocks, *(marker_of(data) if tested else ())))


def _power_table(data: ReportData, tested: list[tuple[ArmResult, Comparison]]) -> Iterator[Block]:
    unit = unit_of(data.reported, data.unit)
    margin = f"±{data.margin:g}{f' {unit}' if unit else ''}"
    ranks = any(len(found.seeds) >= WILCOXON_MIN for _, found in tested)
    header = ["arm", "seeds", "difference [95 %]", "smallest that shows", "seeds for this one", "p (equivalence)"]
    rows = [
        [
            arm.name,
            str(len(found.seeds)),
            difference(found),
            number(found.detectable),
            number(found.seeds_needed, 0),
            p_value(found.p_equivalent),
            *([p_value(found.p_wilcoxon)] if ranks else []),
            f"within {margin}" if found.equivalent else "not shown",
        ]
        for arm, found in tested
    ]
    header += [*(["p (Wilcoxon)"] if ranks else []), "equivalence"]
    tones = ["better" if found.equivalent else "" for _, found in tested]
    yield table(header, rows, numbers=range(1, len(header) - 1), tones=tones)
    yield paragraph(
        f"In {metric_name(data.reported)}{f' ({unit})' if unit else ''}. Smallest that shows: the smallest mean "
        "difference that these seeds, with the spread they have, would have shown at Holm's first step. Seeds for this "
        "one: how many would show the observed difference there with a power of 80 %, if it is the true one; since an "
        "observed difference that looks worth following up is on average too large, read it as the least to plan for. "
        "Equivalence: two one-sided paired t tests (Schuirmann 1987) of whether the difference lies within the margin "
        f"of {margin}, in the unit of the metric, that the matrix declares; p after Holm's correction over the arms. "
        "An arm can be both different and equivalent: different by less than the margin. ",
        "p (Wilcoxon) is of the two-sided exact signed-rank test, uncorrected." if ranks else WILCOXON_NOTE,
    )


def looks_section(data: ReportData) -> Iterator[Section]:
    """Which look at the comparison this is, and the command that adds seeds to undecided arms."""
    looks = data.looks
    if looks is None:
        return
    text = paragraph(Strong(looks.text)) if looks.unplanned else paragraph(looks.text)
    blocks: list[Block] = [text]
    if looks.command and not looks.missing:  # else those first, and what is undecided shows then
        blocks += [
            paragraph(f"Undecided: {', '.join(looks.undecided)}. {looks.next_text}"),
            Code((looks.command,)),
        ]
    elif not looks.command and any(arm.comparison for arm in data.arms):
        blocks.append(paragraph("No arm that was compared is undecided."))
    yield Section("Looks and further seeds", tuple(blocks))


def tuning_section(data: ReportData) -> Iterator[Section]:
    """The values that each arm got before the comparison, chosen on validation."""
    if not data.tuned:
        return
    fields = list(dict.fromkeys(name for values in data.tuned.values() for name in values))
    rows = [(arm, *(_shown(values.get(name)) for name in fields)) for arm, values in data.tuned.items()]
    note: list[Block] = [paragraph(data.tuning_note)] if data.tuning_note else []
    values = table(["arm", *fields], rows, numbers=range(1, 1 + len(fields)))
    yield Section("Values tuned for each arm", (*note, values))


def claims_section(data: ReportData) -> Iterator[Section]:
    """Each claim of the matrix file with the verdict computed from the cells."""
    if not data.claims:
        return
    text = paragraph("Each claim of the matrix file beside what the cells of this report say. ", *judged_by(data))
    rows = table(["claim", "arm", "verdict"], [(claim.text, claim.arm, claim.verdict) for claim in data.claims])
    yield Section("Claims", (text, rows, *marker_of(data)))


def judged_by(data: ReportData) -> tuple[Span, ...]:
    """By which metric claims are judged, and of what the guide's numbers in their texts are."""
    return (
        *(Emphasis("better"), ", ", Emphasis("worse"), " and ", Emphasis("best")),
        f" are judged by the {metric_name(data.reported)}. Numbers in a text are those of whoever claims it: the "
        "guide's are initial MAE where it says nothing else, in its own scoring, which counts missing readings as "
        "true.",
    )


def published_section(data: ReportData) -> Iterator[Section]:
    """Our numbers beside the published ones of the same data set."""
    if not data.published:
        return
    header = ["model", "whose", *(f"MAE {label}" for _, label in data.horizons), "RMSE", "MAPE %", "parameters"]
    rows = [row for one in data.published for row in _published_rows(one)]
    text = "The published numbers are those of the matrix file; ours are mean ± standard deviation over seeds."
    numbers = table(header, rows, numbers=range(2, len(header)))
    yield Section("Beside the published numbers", (paragraph(text), numbers, *marker_of(data)))


def effects_section(data: ReportData) -> Iterator[Section]:
    """Main effects and interaction contrasts of a grid of two fields."""
    if not data.effects:
        return
    rows = [
        (
            effect.kind,
            effect.name,
            _effect(effect.found),
            p_value(effect.found.p_holm),
            f"{effect.verdict} ({effect.found.note})" if effect.found.note else effect.verdict,
        )
        for effect in data.effects
    ]
    text = paragraph(
        f"In {metric_name(data.reported)}; below zero is better. A main effect is a level's per-seed "
        "difference to the baseline's level, averaged over the levels of the other field. An interaction is a "
        "difference of differences: what two changes do together beyond the sum of what each does alone. Means over "
        f"the seeds that are done in all arms, with 95 % t intervals from {MIN_SEEDS} seeds on; p after Holm's "
        "correction over this table."
    )
    effects = table(["what", "levels", "mean [95 %]", "p (Holm)", "verdict"], rows, numbers=[2, 3])
    yield Section("Main effects and interaction", (text, effects, *marker_of(data)))


def _effect(found: Comparison) -> str:
    """The mean with its interval; the mean alone where there are too few seeds for more."""
    return difference(found if len(found.seeds) >= MIN_SEEDS else replace(found, low=None, high=None))


def _published_rows(row: PublishedRow) -> list[list[str]]:
    rows = []
    if row.theirs:
        theirs = [number(value, 2) for value in row.theirs]
        rows.append([row.model, "published", *theirs, row.their_parameters or MISSING])
    if row.arm is not None:
        ours = [spread(summary, 2) for summary in row.ours]
        rows.append([row.model, f"ours, arm {row.arm}", *ours, whole(row.our_parameters)])
    return rows


def _shown(value: object) -> str:
    return MISSING if value is None else f"{value:g}" if isinstance(value, float) else str(value)
