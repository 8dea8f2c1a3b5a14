"""What is a linear map by way of a convolution worth on this machine, for which sizes?

    python -m benchmarks.bench_linear [--rounds 9] [--threads 1 2] [--out FILE]

Forward and backward of one linear map, the way altformer/model/linear.py goes and as torch computes it, by turns;
ratios are taken pair by pair. The model leaves small maps to torch. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from altformer.model.linear import LEAST_WORK, linear
from altformer.training.memory import keep_freed_memory
from benchmarks.bench_pairs import alternate, finish, load, per_second, ratio, seconds, table

SIZES = ((1656, 32, 32), (6624, 32, 128), (6624, 96, 96), (6624, 128, 512), (39744, 96, 288), (39744, 96, 384))


def forward_and_backward(way: Callable[..., torch.Tensor], rows: int, inputs: int, outputs: int) -> Callable[[], None]:
    """A call of the map on operands of its own."""
    operands = [torch.randn(size, requires_grad=True) for size in ((rows, inputs), (outputs, inputs), (outputs,))]
    gradient = torch.randn(rows, outputs)

    def work() -> None:
        torch.autograd.grad(way(*operands), operands, gradient)

    return work


def measure(rounds: int, rows: int, inputs: int, outputs: int) -> dict[str, Any]:
    """Both ways by turns, for one size."""
    ways = {"ours": linear, "torch": functional.linear}
    works = {name: partial(seconds, forward_and_backward(way, rows, inputs, outputs)) for name, way in ways.items()}
    times = alternate(works, rounds, warm_up=2)
    flop = 6 * rows * inputs * outputs
    return {
        "size": (rows, inputs, outputs),
        "convolved": rows * inputs * outputs >= LEAST_WORK,
        "flop_per_second": {name: per_second(flop, found) for name, found in times.items()},
        "ratio": ratio(times["torch"], times["ours"]),
    }


def run(rounds: int, threads: Sequence[int]) -> dict[str, Any]:
    """All sizes with each number of threads."""
    keep_freed_memory()
    torch.manual_seed(0)
    found = {}
    for count in threads:
        torch.set_num_threads(count)
        found[str(count)] = [measure(rounds, *size) for size in SIZES]
    return {"torch": torch.__version__, "rounds": rounds, "least_work": LEAST_WORK, "threads": found, "load": load()}


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    rows = [
        (
            *(threads, " x ".join(map(str, row["size"])), "yes" if row["convolved"] else "no"),
            *(f"{row['flop_per_second'][name] / 1e9:.0f}" for name in ("ours", "torch")),
            row["ratio"],
        )
        for threads, found in result["threads"].items()
        for row in found
    ]
    head = ("threads", "rows x inputs x outputs", "convolved", "GFLOP/s", "torch's GFLOP/s", "ratio (min .. max)")
    return "\n".join(
        [
            f"Linear maps, forward and backward, in fp32; from {result['least_work']:,} multiplications on they are "
            f"convolutions. {result['rounds']} rounds, torch {result['torch']}, load {result['load']}.",
            "",
            table(head, rows),
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_linear", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = run(args.rounds, args.threads)
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
