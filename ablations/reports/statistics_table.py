"""``statistics.csv``: every metric of every arm over its seeds, unrounded, for those who compute on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ablations.arm_results import ArmResult, column_of
from ablations.cells import MISSING
from ablations.reports.data import ReportData
from ablations.statistics import Comparison, Summary
from altformer.files import write_text
from experiments.csv_text import csv_text, defused

STATISTICS = "statistics.csv"
COLUMNS = (
    "arm",
    "metric",
    "seeds",
    "mean",
    "std",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "d_z",
    "p_equivalent",
    "p_wilcoxon",
    "verdict",
)


def write_statistics(data: ReportData, folder: Path) -> Path:
    """Write the table, one row for each arm and metric; ``-`` is what is missing. Returns its path.

    ``low`` and ``high`` bound the 95 % t interval of the mean. Differences to the baseline are paired by seed, of the
    reported metric and of the MAE at each step; Holm's correction is over the arms, for each metric by itself.
    """
    path = folder / STATISTICS
    write_text(path, csv_text([COLUMNS, *_rows(data)]))
    return path


def _rows(data: ReportData) -> Iterator[list[str]]:
    for arm in (*data.arms, *data.aliases):
        for metric, summary in arm.metrics.items():
            found = _comparison(data, arm, metric)
            verdict = defused(arm.verdict) if metric == data.reported else MISSING
            yield [defused(arm.name), metric, str(summary.n), *map(_number, (*_of(summary), *_against(found))), verdict]


def _comparison(data: ReportData, arm: ArmResult, metric: str) -> Comparison | None:
    if metric == data.reported:
        return arm.comparison
    return next((found for step, found in arm.by_step.items() if column_of("mae", step) == metric), None)


def _of(summary: Summary) -> tuple[float | None, ...]:
    return summary.mean, summary.std, summary.low, summary.high


def _against(found: Comparison | None) -> tuple[float | None, ...]:
    if found is None:
        return (None,) * 8
    bounds = found.difference, found.low, found.high
    return (*bounds, found.p, found.p_holm, found.d_z, found.p_equivalent, found.p_wilcoxon)


def _number(value: float | None) -> str:
    return MISSING if value is None else repr(float(value))
