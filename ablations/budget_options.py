"""The options of a command that limit what it may cost."""

from __future__ import annotations

import argparse
import math

from altformer.errors import UserError
from cluster.budget import Budget


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Declare ``--max-hours``, ``--max-gpu-hours`` and ``--max-cells``."""
    parser.add_argument("--max-hours", type=float, metavar="H", help="leave after so many hours; exit code 3")
    parser.add_argument("--max-gpu-hours", type=float, metavar="H", help="likewise, hours times the GPUs in use")
    parser.add_argument("--max-cells", type=int, metavar="N", help="start at most so many cells; exit code 3")


def given_budget(args: argparse.Namespace) -> Budget:
    """The budget of the command line; UserError for a limit that leaves nothing or is no number."""
    for option in ("max_hours", "max_gpu_hours"):
        value = getattr(args, option)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UserError(f"--{option.replace('_', '-')} takes a number of hours above 0, got {value:g}")
    if args.max_cells is not None and args.max_cells < 1:
        raise UserError(f"--max-cells must be at least 1, got {args.max_cells}")
    return Budget(args.max_hours, args.max_gpu_hours, args.max_cells)


def refuse_gpu_hours(budget: Budget, gpus: float) -> None:
    """UserError for a budget in GPU-hours where a trial holds so many GPUs, and that is none."""
    if budget.gpu_hours is not None and not gpus:
        raise UserError(f"--max-gpu-hours {budget.gpu_hours:g}: no trial holds a GPU here; use --max-hours")
