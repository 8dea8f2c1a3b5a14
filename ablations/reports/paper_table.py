"""The table of a paper over several data sets: MAE, RMSE and MAPE at each step ahead and over all, per arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.arm_results import METRICS, column_of
from ablations.cells import MISSING
from ablations.reports import latex_text
from ablations.reports.blocks import as_sentence
from ablations.reports.data import ReportData
from ablations.reports.markdown_text import escape, table
from ablations.reports.numbers import DECIMALS, spread
from ablations.statistics import Summary
from altformer.files import write_text
from experiments.csv_text import csv_text, defused

NAMES = {"mae": "MAE", "rmse": "RMSE", "mape": "MAPE (%)"}


@dataclass(frozen=True)
class Row:
    """One arm on one data set: a summary over seeds for every metric at every step of the table."""

    dataset: str
    arm: str
    seeds: int
    params: int | None
    values: dict[tuple[str, str], Summary]  # by step and metric


@dataclass(frozen=True)
class PaperTable:
    """Rows of all data sets; ``steps`` are (step, label), last ``all``. Empty ``marker`` in the full profile."""

    rows: tuple[Row, ...]
    steps: tuple[tuple[str, str], ...]
    marker: str


def paper_table(reports: Sequence[tuple[str, str, ReportData]]) -> PaperTable:
    """The table of reports given as (data set, matrix, report), with the steps that some report has.

    An arm is named with its matrix where there is more than one.
    """
    several = len({matrix for _, matrix, _ in reports}) > 1
    steps = {step: label for *_, report in reports for step, label in report.horizons}
    ordered = sorted(steps, key=lambda step: (step == "all", int(step) if step.isdigit() else 0))
    rows = [
        Row(
            dataset,
            f"{matrix}/{arm.name}" if several else arm.name,
            arm.done,
            arm.params,
            {
                (step, metric): arm.metrics.get(column_of(metric, step), Summary(0, None, None, None, None))
                for step in ordered
                for metric in METRICS
            },
        )
        for dataset, matrix, report in reports
        for arm in report.arms
    ]
    marker = next((report.marker for *_, report in reports if report.marker), "")
    return PaperTable(tuple(rows), tuple((step, steps[step]) for step in ordered), marker)


def write_paper_table(data: PaperTable, folder: Path) -> list[Path]:
    """Write ``table.md``, ``table.tex`` (booktabs) and ``table.csv`` into the folder; returns their paths."""
    written = {"table.md": as_markdown(data), "table.tex": as_latex(data), "table.csv": as_csv(data)}
    for name, text in written.items():
        write_text(folder / name, text)
    return [folder / name for name in written]


def as_markdown(data: PaperTable) -> str:
    """The table in Markdown: a row for each data set and arm."""
    header = [
        "data set",
        "arm",
        "seeds",
        *(f"{NAMES[metric]} {label}" for _, label in data.steps for metric in METRICS),
    ]
    rows = [[row.dataset, row.arm, str(row.seeds), *_texts(row, data)] for row in data.rows]
    marker = f"> **{escape(as_sentence(data.marker))}**\n\n" if data.marker else ""
    return (
        f"# Test errors by data set\n\n{marker}Mean ± standard deviation over seeds.\n\n"
        f"{table(header, rows, numbers=range(2, len(header)))}\n"
    )


def as_latex(data: PaperTable) -> str:
    """The table in LaTeX, for the package booktabs; special characters of names are escaped."""
    return "\n".join(_latex_lines(data)) + "\n"


def as_csv(data: PaperTable) -> str:
    """The numbers unrounded: mean and standard deviation of every metric, ``-`` for what is missing."""
    columns = [(step, metric) for step, _ in data.steps for metric in METRICS]
    heads = [f"{column_of(metric, step)}_{part}" for step, metric in columns for part in ("mean", "std")]
    rows = [["dataset", "arm", "seeds", "params", "note", *heads]]
    for row in data.rows:
        numbers = [value for key in columns for value in (row.values[key].mean, row.values[key].std)]
        shown = [MISSING if value is None else repr(value) for value in numbers]
        params = MISSING if row.params is None else str(row.params)
        texts = [defused(row.dataset), defused(row.arm), str(row.seeds), params, data.marker or MISSING]
        rows.append([*texts, *shown])
    return csv_text(rows)


def _latex_lines(data: PaperTable) -> Iterator[str]:
    if data.marker:
        yield f"% {data.marker}"
    yield f"\\begin{{tabular}}{{ll{'r' * len(data.steps) * len(METRICS)}}}"
    yield r"\toprule"
    groups = [f"\\multicolumn{{{len(METRICS)}}}{{c}}{{{latex_text.escape(label)}}}" for _, label in data.steps]
    yield " & ".join(["", "", *groups]) + r" \\"
    starts = range(3, 3 + len(METRICS) * len(data.steps), len(METRICS))
    yield " ".join(f"\\cmidrule(lr){{{start}-{start + len(METRICS) - 1}}}" for start in starts)
    metrics = [latex_text.escape(NAMES[metric]) for _ in data.steps for metric in METRICS]
    yield " & ".join(["Data set", "Arm", *metrics]) + r" \\"
    before = None
    for row in data.rows:
        if row.dataset != before:
            yield r"\midrule"
        name = latex_text.escape(row.dataset) if row.dataset != before else ""
        numbers = [MISSING if text == MISSING else f"${text}$".replace("±", r"\pm") for text in _texts(row, data)]
        yield " & ".join([name, latex_text.escape(row.arm), *numbers]) + r" \\"
        before = row.dataset
    if data.marker:
        width = 2 + len(METRICS) * len(data.steps)
        yield r"\midrule"
        yield f"\\multicolumn{{{width}}}{{l}}{{{latex_text.escape(data.marker)}}} \\\\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _texts(row: Row, data: PaperTable) -> list[str]:
    return [spread(row.values[step, metric], DECIMALS.get(metric, 3)) for step, _ in data.steps for metric in METRICS]
