"""A report as a document: which sections it has, in which order, and the tables that every report has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablations.arm_results import METRICS, ArmResult, column_of, metric_name, unit_of
from ablations.cells import MISSING
from ablations.power import ALPHA
from ablations.reports.blocks import (
    Block,
    Code,
    Document,
    Emphasis,
    Figures,
    Paragraph,
    Section,
    Strong,
    Table,
    as_sentence,
    paragraph,
    table,
)
from ablations.reports.data import ReportData
from ablations.reports.numbers import DECIMALS, difference, interval, p_value, spread, whole
from ablations.reports.sections import (
    claims_section,
    effects_section,
    looks_section,
    marker_of,
    power_section,
    published_section,
    stopped_section,
    tuning_section,
)

OPTIONAL = (
    stopped_section,
    power_section,
    looks_section,
    tuning_section,
    claims_section,
    published_section,
    effects_section,
)
MANY = 12  # rows of a list that few read


def document(data: ReportData, figures: Sequence[str]) -> Document:
    """The report's sections; ``figures`` are the titles of the plots that there are."""
    caution = [data.looks.caution] if data.looks and data.looks.caution else []
    notes = tuple(Paragraph((Strong("Note."), f" {text}"), note=True) for text in (*caution, *data.warnings))
    sections = [_arms_section(data)]
    for section in OPTIONAL:
        sections += section(data)
    sections.append(_horizons_section(data))
    if figures:
        sections.append(Section("Plots", (Figures(tuple(figures)),)))
    sections += _closing_sections(data)
    return Document(data.title, as_sentence(data.marker), (paragraph(data.summary), *notes), tuple(sections))


def _arms_section(data: ReportData) -> Section:
    few = [paragraph(Strong(data.seeds_note))] if data.seeds_note else []
    return Section("Arms", (_comparison_table(data), *marker_of(data), *few, _reading_help(data)))


def _horizons_section(data: ReportData) -> Section:
    text = paragraph(f"Test set, mean ± standard deviation over seeds; MAE and RMSE{_unit(data)}, MAPE in %.")
    return Section("Errors by horizon", (text, _horizon_table(data), *marker_of(data)))


def _closing_sections(data: ReportData) -> Iterator[Section]:
    if data.unfinished:
        rows = [(cell.arm, str(cell.seed), cell.status, cell.reason, cell.cell_hash) for cell in data.unfinished]
        cells = table(["arm", "seed", "status", "reason", "cell"], rows, numbers=[1])
        yield Section("Cells that are not done", (cells,), long=len(rows) > MANY)
    yield Section("Early stopping", (paragraph(f"Scheduler: {data.scheduler}"),))
    yield Section("Time", (table(["what", "how much"], data.timing),))
    yield Section("Provenance", (table(["what", "value"], data.provenance),))
    if data.repeat:
        text = paragraph(
            "Each line trains one cell of this report anew, in a folder of its own. With the data, the commit and the "
            "versions above, on the same kind of CPU, the numbers are the same to the bit."
        )
        lines = tuple(f"{command}  # {arm}, seed {seed}" for arm, seed, command in data.repeat)
        blocks: tuple[Block, ...] = (text, Code(lines))
        yield Section("Repeating a cell", blocks, long=True)


def _comparison_table(data: ReportData) -> Table:
    """The arms with their numbers, and what a baseline makes of them; without one there are no differences to show."""
    steps = [(step, label) for step, label in data.horizons if step != "all"]
    arms = (*data.arms, *data.aliases)
    compared = data.baseline is not None or any(arm.comparison for arm in arms)
    against = [f"difference in {metric_name(data.reported)} [95 %]", "p (Holm)", "d_z"] if compared else []
    header = [
        "arm",
        "parameters",
        "seeds",
        "val MAE",
        "test MAE",
        "95 % interval",
        *(f"MAE {label}" for _, label in steps),
        "RMSE",
        "MAPE %",
        *against,
        "verdict",
    ]
    rows = [_comparison_row(arm, [step for step, _ in steps], compared) for arm in arms]
    return Table(
        tuple(header),
        tuple(map(tuple, rows)),
        tuple(range(1, len(header) - 1)),
        tuple(map(_tone, arms)),
        _caption(data),
        second_part=len(header) - len(against) - 1 if compared else 0,
    )


def _comparison_row(arm: ArmResult, steps: list[str], compared: bool) -> list[str]:
    test = arm.metrics["test_mae"]
    found = arm.comparison
    against = (
        difference(found),
        p_value(found.p_holm if found else None),
        MISSING if found is None or found.d_z is None else f"{found.d_z:+.2f}",
    )
    return [
        arm.name,
        whole(arm.params),
        arm.seeds_text,
        spread(arm.metrics["val_mae"]),
        spread(test),
        interval(test.low, test.high),
        *(spread(arm.metrics[column_of("mae", step)]) for step in steps),
        spread(arm.metrics["test_rmse"]),
        spread(arm.metrics["test_mape"], DECIMALS["mape"]),
        *(against if compared else ()),
        arm.verdict_text,
    ]


def _tone(arm: ArmResult) -> str:
    """How a verdict may be coloured."""
    if arm.verdict in ("better", "worse"):
        return arm.verdict
    return "trouble" if arm.stopped is not None or not arm.done else ""


def _caption(data: ReportData) -> str:
    """What the table of arms needs beside it in a paper."""
    done = sorted({arm.done for arm in data.arms if arm.done})
    seeds = "no seed yet" if not done else _counted(done[0]) if len(done) == 1 else f"{done[0]} to {_counted(done[-1])}"
    marker = f" {as_sentence(data.marker)}" if data.marker else ""
    text = f"{data.title}.{marker} Errors{_unit(data)}, mean ± standard deviation over {seeds}"
    if data.looks is not None:
        text += (
            f", with the 95 % t interval of the mean. Differences are per seed to the baseline {data.baseline} (below "
            "zero is better), with their paired 95 % t interval; p of the paired t test after Holm's correction over "
            f"the arms, at alpha = {data.looks.alpha:.3g}"
        )
    return f"{text}. Early stopping: {data.rule}."


def _counted(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _horizon_table(data: ReportData) -> Table:
    columns = [(metric, step) for step, _ in data.horizons for metric in METRICS]
    header = ["arm", *(f"{metric.upper()} {label}" for _, label in data.horizons for metric in METRICS)]
    rows = [
        [arm.name, *(spread(arm.metrics[column_of(metric, step)], DECIMALS.get(metric, 3)) for metric, step in columns)]
        for arm in data.arms
    ]
    return table(header, rows, numbers=range(1, len(header)))


def _reading_help(data: ReportData) -> Paragraph:
    spread_of = f"± is the standard deviation over seeds{f'; errors{_unit(data)}' if data.unit else ''}. "
    counted = f"Only cells that are done count; {MISSING} means that there is no such number."
    if data.baseline is None:
        return paragraph(f"{spread_of}No baseline is named, so nothing is compared. {counted}")
    alpha = data.looks.alpha if data.looks else ALPHA
    unit = unit_of(data.reported, data.unit)
    return paragraph(
        f"{spread_of}The difference is the mean of the per-seed differences to the baseline {data.baseline}"
        f"{f', in {unit}' if unit else ''}, below zero is better, with its paired 95 % t interval, which is of each "
        "arm by itself; p is of the paired t test, after Holm's correction over the arms, so that it may be large "
        "where the interval leaves out zero; d_z is the mean difference in standard deviations of the per-seed "
        "differences (Cohen 1988). ",
        *(Emphasis("better"), " and ", Emphasis("worse"), f" mean p < {alpha:.3g}; ", Emphasis("no difference shown")),
        f" does not mean equal. {counted}",
    )


def _unit(data: ReportData) -> str:
    return f" in {data.unit}" if data.unit else ""
