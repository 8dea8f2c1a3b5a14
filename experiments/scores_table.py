"""Scores as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUICK_NOTE = "quick profile: not comparable with published numbers"
NOT_COMPARABLE = "  quick profile or not every window scored: not comparable with published numbers"


def comparable(record: Mapping[str, Any]) -> bool:
    """Whether a run's numbers may stand beside published ones: neither quick nor scored on some windows only."""
    return bool(record["profile"] != "quick" and record["config"]["dataset"]["test_stride"] == 1)


def scores_table(title: str, scores: dict[str, Any], step_minutes: int) -> str:
    """Title, one row per horizon with MAE, RMSE and MAPE, and the unmasked MAE under its own name."""
    rows = [title, f"  {'horizon':<16}{'MAE':>9}{'RMSE':>9}{'MAPE %':>9}"]
    for step, values in scores.items():
        if isinstance(values, dict):
            numbers = (values[metric] for metric in ("mae", "rmse", "mape"))
            rows.append(f"  {_horizon(step, step_minutes):<16}" + "".join(map(_number, numbers)))
    rows.append(
        f"  {scores['windows']} windows; MAE with missing readings scored as zeros: {scores['mae_unmasked']:.4f}"
    )
    return "\n".join(rows)


def comparison_table(title: str, rows: Mapping[str, dict[str, Any] | None], step_minutes: int) -> str:
    """Title, then one row per name: MAE at each horizon, and MAE, RMSE, MAPE and unmasked MAE over all steps.

    Names without scores get dashes.
    """
    known = next((scores for scores in rows.values() if scores is not None), {})
    steps = [step for step, values in known.items() if isinstance(values, dict) and step != "all"]
    heads = [_horizon(step, step_minutes) for step in steps] + ["MAE", "RMSE", "MAPE %", "unmasked"]
    width = max(map(len, rows), default=0)
    lines = [title, f"  {'':<{width}}" + "".join(f"{head:>9}" for head in heads)]
    for name, scores in rows.items():
        numbers: list[float | None] = [None] * len(heads)
        if scores is not None:
            whole = scores["all"]
            numbers = [scores[step]["mae"] for step in steps]
            numbers += [whole["mae"], whole["rmse"], whole["mape"], scores["mae_unmasked"]]
        lines.append(f"  {name:<{width}}" + "".join(map(_number, numbers)))
    if known:
        lines.append(f"  {known['windows']} windows; by horizon: MAE; unmasked: MAE with missing readings as zeros")
    return "\n".join(lines)


def _horizon(step: str, step_minutes: int) -> str:
    return "all steps" if step == "all" else f"{int(step) * step_minutes} min"


def _number(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>9}"
