"""The report of a matrix as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.markdown import code_block, escape, table
from ablations.numbers import DECIMALS, MISSING, difference, interval, p_value, spread
from ablations.report_data import METRICS, ArmResult, ReportData, column_of, metric_name
from ablations.report_sections import claims_section, effects_section, published_section


def markdown(data: ReportData, plots: dict[str, str]) -> str:
    """The report's text; ``plots`` maps each plot's title to its path relative to the report."""
    return "\n\n".join(_sections(data, plots)) + "\n"


def _sections(data: ReportData, plots: dict[str, str]) -> Iterator[str]:
    marker = f"**{escape(data.marker[:1].upper() + data.marker[1:])}.**" if data.marker else ""
    yield f"# {escape(data.title)}"
    if marker:
        yield f"> {marker}"
    yield escape(data.summary)
    yield from (f"> **Note.** {escape(warning)}" for warning in data.warnings)
    yield "## Arms"
    yield _comparison_table(data)
    if marker:
        yield marker
    yield _reading_help(data)
    for section in (claims_section, published_section, effects_section):
        yield from section(data, marker)
    yield "## Errors by horizon"
    yield f"Test set, mean ± standard deviation over seeds; MAE and RMSE{_unit(data)}, MAPE in %."
    yield _horizon_table(data)
    if marker:
        yield marker
    if plots:
        yield "## Plots"
        yield from (f"![{escape(title)}]({path})" for title, path in plots.items())
    if data.unfinished:
        yield "## Cells that are not done"
        rows = [(cell.arm, str(cell.seed), cell.status, cell.reason, cell.cell_hash) for cell in data.unfinished]
        yield table(["arm", "seed", "status", "reason", "cell"], rows, numbers=[1])
    yield "## Early stopping"
    yield f"Scheduler: {escape(data.scheduler)}"
    yield "## Time"
    yield table(["what", "how much"], data.timing)
    yield "## Provenance"
    yield table(["what", "value"], data.provenance)
    if data.repeat:
        yield "## Repeating a cell"
        yield "Each line trains one cell of this report anew, beside the first time."
        yield code_block(f"{command}  # {arm}, seed {seed}" for arm, seed, command in data.repeat)


def _comparison_table(data: ReportData) -> str:
    steps = [(step, label) for step, label in data.horizons if step != "all"]
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
        f"difference in {metric_name(data.reported)} [95 %]",
        "p (Holm)",
        "d_z",
        "verdict",
    ]
    rows = [_comparison_row(arm, [step for step, _ in steps]) for arm in (*data.arms, *data.aliases)]
    return table(header, rows, numbers=range(1, len(header) - 1))


def _comparison_row(arm: ArmResult, steps: list[str]) -> list[str]:
    test = arm.metrics["test_mae"]
    found = arm.comparison
    return [
        arm.name,
        MISSING if arm.params is None else f"{arm.params:,}",
        str(arm.done) if arm.done == arm.planned else f"{arm.done} of {arm.planned}",
        spread(arm.metrics["val_mae"]),
        spread(test),
        interval(test.low, test.high),
        *(spread(arm.metrics[column_of("mae", step)]) for step in steps),
        spread(arm.metrics["test_rmse"]),
        spread(arm.metrics["test_mape"], DECIMALS["mape"]),
        difference(arm.comparison),
        MISSING if found is None or found.p_holm is None else p_value(found.p_holm),
        MISSING if found is None or found.d_z is None else f"{found.d_z:+.2f}",
        f"{arm.verdict} ({arm.note})" if arm.note else arm.verdict,
    ]


def _horizon_table(data: ReportData) -> str:
    names = {"mae": "MAE", "rmse": "RMSE", "mape": "MAPE"}
    columns = [(metric, step) for step, _ in data.horizons for metric in METRICS]
    header = ["arm", *(f"{names[metric]} {label}" for _, label in data.horizons for metric in METRICS)]
    rows = [
        [arm.name, *(spread(arm.metrics[column_of(metric, step)], DECIMALS.get(metric, 3)) for metric, step in columns)]
        for arm in data.arms
    ]
    return table(header, rows, numbers=range(1, len(header)))


def _reading_help(data: ReportData) -> str:
    baseline = f" the baseline {escape(data.baseline)}" if data.baseline is not None else " a baseline (none is named)"
    return (
        f"± is the standard deviation over seeds; errors{_unit(data)}. The difference is the mean of the per-seed "
        f"differences to{baseline}, below zero is better, with its paired 95 % t interval; p is of the paired t test, "
        "after Holm's correction over the arms; d_z is the mean difference in standard deviations of the per-seed "
        "differences (Cohen 1988). *better* and *worse* mean p < 0.05; *no difference shown* does not "
        f"mean equal. Only cells that are done count; {MISSING} means that there is no such number."
    )


def _unit(data: ReportData) -> str:
    return f" in {escape(data.unit)}" if data.unit else ""
