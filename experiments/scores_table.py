"""Scores as lines of text."""

from __future__ import annotations

from typing import Any


def scores_table(title: str, scores: dict[str, Any], step_minutes: int) -> str:
    """Title, one row per horizon with MAE, RMSE and MAPE, and the unmasked MAE under its own name."""
    rows = [title, f"  {'horizon':<16}{'MAE':>9}{'RMSE':>9}{'MAPE %':>9}"]
    for step, values in scores.items():
        if isinstance(values, dict):
            name = "all steps" if step == "all" else f"{int(step) * step_minutes} min"
            numbers = (values[metric] for metric in ("mae", "rmse", "mape"))
            rows.append(f"  {name:<16}" + "".join(f"{'-' if n is None else f'{n:.4f}':>9}" for n in numbers))
    rows.append(
        f"  {scores['windows']} windows; MAE with missing readings scored as zeros: {scores['mae_unmasked']:.4f}"
    )
    return "\n".join(rows)
