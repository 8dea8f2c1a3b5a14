"""Masked errors of forecasts, summed exactly over any number of batches and ranks.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

HORIZONS = (3, 6, 12)
Scores = dict[str, dict[str, float | None]]


class ErrorSums:
    """Sums and counts of masked errors by output step, in float64.

    MAE, RMSE and MAPE are means over all observed targets of all samples and sensors at once (no mean of batch means).
    ``mae_unmasked`` scores missing targets (zeros) as if they were true; it is the guide's scoring and is never mixed
    with the others. MAPE leaves out targets of exactly zero.
    """

    def __init__(self, output_len: int, device: torch.device | str = "cpu") -> None:
        # rows: |e| observed, e^2 observed, |e/y| observed, |e| all, count observed, count of the MAPE, count all
        self.sums = torch.zeros(7, output_len, dtype=torch.float64, device=device)

    def add(self, forecast: Tensor, target: Tensor, observed: Tensor) -> None:
        """Add one batch: forecast and target (b,h,n) in the data's unit, observed (b,h,n) bool; no host sync."""
        error = (forecast.float() - target).abs()
        scored = observed & (target != 0)
        ratio = torch.where(scored, error / torch.where(scored, target.abs(), 1.0), 0.0)
        masked = torch.where(observed, error, 0.0)
        rows = (masked, masked.square(), ratio, error, observed, scored, torch.ones_like(observed))
        self.sums += torch.stack([row.sum(dim=2, dtype=torch.float64).sum(dim=0) for row in rows])

    def reduce(self) -> None:
        """Sum over all ranks of the process group, exactly; does nothing without one."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.sums)

    def scores(self) -> Scores:
        """``{"3": {mae, rmse, mape}, "6": ..., "12": ..., "all": ...}``; steps beyond the horizon are left out.

        MAE and RMSE are in the data's unit, MAPE in percent. A number over no observed target at all is None.
        """
        sums = self.sums.cpu()
        output_len = sums.shape[1]
        steps = {str(step): sums[:, step - 1] for step in sorted({*HORIZONS, output_len}) if step <= output_len}
        return {name: _scores_of(part) for name, part in {**steps, "all": sums.sum(dim=1)}.items()}

    def mae_unmasked(self) -> float:
        """MAE over all targets in the data's unit, missing ones scored as zeros."""
        return float(self.sums[3].sum() / self.sums[6].sum())


def _scores_of(sums: Tensor) -> dict[str, float | None]:
    absolute, squared, ratio, _, count, scored, _ = sums
    return {
        "mae": float(absolute / count) if count else None,
        "rmse": float((squared / count).sqrt()) if count else None,
        "mape": float(100 * ratio / scored) if scored else None,
    }
