"""Scores as lines of text."""

from __future__ import annotations

from typing import Any


def scores_table(title: str, scores: dict[str, Any], step_minutes: int) -> str:
    """Title, one row per horizon with MAE, RMSE and MAPE, and the unmasked MAE under its own name."""
    rows = [title, f"  {'horizon':<16}{'MAE':>9}{'RMSE':>9}{'MAPE %':>9}"]
    for step, values in scores.items():
        if isinstance(values, dict):
            name = "all steps" if step == "all" else f"{int(step) * step_minutes} min"
            rows.append(f"  {name:<16}{values['mae']:>9.4f}{values['rmse']:>9.4f}{values['mape']:>9.4f}")
    rows.append(
        f"  {scores['windows']} windows; MAE with missing readings scored as zeros: {scores['mae_unmasked']:.4f}"
    )
    return "\n".join(rows)
