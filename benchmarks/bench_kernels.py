"""What are our ways to compute a linear map and an attention worth on this CPU, for which sizes?

    python -m benchmarks.bench_kernels [--rounds 9] [--threads 1 2] [--out FILE]

Forward and backward in fp32, by turns, ratios pair by pair: a linear map as a convolution (altformer/model/linear.py)
and as torch computes it; attention written out (altformer/model/attention.py) and by torch's fused kernel. The last
column says which way the model goes. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from altformer.model.attention import is_faster_written_out, written_out
from altformer.model.linear import convolved, is_convolved
from altformer.training.memory import keep_freed_memory
from benchmarks.bench_pairs import alternate, finish, load, ratio, seconds, table

MAPS = ((1656, 32, 32), (6624, 32, 128), (6624, 96, 96), (6624, 128, 512), (39744, 96, 288), (39744, 96, 384))
ATTENTIONS = ((3312, 4, 12, 24), (1656, 4, 24, 24), (828, 4, 48, 24), (414, 4, 96, 24), (192, 4, 207, 24))

Way = Callable[..., Tensor]


def forward_and_backward(way: Way, operands: Sequence[Tensor]) -> Callable[[], None]:
    """A call of one way and its gradients of all operands."""
    with torch.no_grad():
        gradient = torch.randn_like(way(*operands))

    def work() -> None:
        torch.autograd.grad(way(*operands), operands, gradient)

    return work


def measure(rounds: int, size: tuple[int, ...], ours: Way, theirs: Way, operands: list[Tensor]) -> dict[str, Any]:
    """Both ways by turns, for one size."""
    learned = [operand.requires_grad_() for operand in operands]
    works = {name: forward_and_backward(way, learned) for name, way in (("ours", ours), ("torch", theirs))}
    times = alternate({name: partial(seconds, work) for name, work in works.items()}, rounds, warm_up=2)
    return {"size": size, "ratio": ratio(times["torch"], times["ours"])}


def linear_map(rounds: int, size: tuple[int, int, int]) -> dict[str, Any]:
    """A map of (rows, inputs, outputs)."""
    rows, inputs, outputs = size
    operands = [torch.randn(shape) for shape in ((rows, inputs), (outputs, inputs), (outputs,))]
    found = measure(rounds, size, convolved, functional.linear, operands)
    return found | {"chosen": is_convolved(operands[0], outputs)}


def attention(rounds: int, size: tuple[int, int, int, int]) -> dict[str, Any]:
    """Self-attention of (rows, heads, tokens, width of a head), heads split as the model splits them."""
    rows, heads, tokens, width = size
    operands = [torch.randn(rows, tokens, heads, width).transpose(1, 2) for _ in range(3)]
    found = measure(rounds, size, written_out, functional.scaled_dot_product_attention, operands)
    return found | {"chosen": is_faster_written_out(*operands)}


def run(rounds: int, threads: Sequence[int]) -> dict[str, Any]:
    """All sizes with each number of threads."""
    keep_freed_memory()
    torch.manual_seed(0)
    found = {}
    for count in threads:
        torch.set_num_threads(count)
        found[str(count)] = {
            "linear map, rows x inputs x outputs": [linear_map(rounds, size) for size in MAPS],
            "attention, rows x heads x tokens x width": [attention(rounds, size) for size in ATTENTIONS],
        }
    return {"torch": torch.__version__, "rounds": rounds, "threads": found, "load": load()}


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    rows = [
        (threads, kind, " x ".join(map(str, row["size"])), row["ratio"], "yes" if row["chosen"] else "no")
        for threads, kinds in result["threads"].items()
        for kind, found in kinds.items()
        for row in found
    ]
    head = ("threads", "what", "size", "torch's time to ours (min .. max)", "the model goes our way")
    return "\n".join(
        [
            "A linear map as a convolution beside torch's own, and attention written out beside torch's fused kernel; "
            f"forward and backward in fp32. {result['rounds']} rounds, torch {result['torch']}, load {result['load']}.",
            "",
            table(head, rows),
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = run(args.rounds, args.threads)
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
