"""Scores as flat metrics, free of torch."""

from __future__ import annotations

from typing import Any


def flatten(prefix: str, scores: dict[str, Any]) -> dict[str, float]:
    """``{"all": {"mae": ...}, "3": ...}`` as ``val_mae`` (all steps), ``val_mae_3`` (step 3), ``val_mae_unmasked``.

    A number that does not exist (no observed target at that step) is left out.
    """
    flat = {
        f"{prefix}_{metric}" + ("" if step == "all" else f"_{step}"): value
        for step, values in scores.items()
        if isinstance(values, dict)
        for metric, value in values.items()
        if value is not None
    }
    return {**flat, f"{prefix}_mae_unmasked": scores["mae_unmasked"]}
