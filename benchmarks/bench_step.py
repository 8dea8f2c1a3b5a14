"""How much slower is a training step of Phase 1 than its matrix products and attention alone?

    python -m benchmarks.bench_step [--pairs 10] [--threads 1 2] [--out FILE]

The step is forward, masked MAE, backward and AdamW on random readings of 207 sensors. Its products are found by
watching one forward pass, then repeated bare, forward and backward, on tensors of the same shapes: `F.linear` without
bias and `scaled_dot_product_attention` on contiguous heads, so nothing of the model's own cost flatters the ratio. Step
and products alternate in one process, and the ratio is taken pair by pair, so that other work on the machine weighs
on both; yet two threads that wait for each other at every operation suffer more from a busy core than a few long
products do, which the load average (1 minute, at the end) beside each row tells. Prints Markdown; `--out` also writes
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from altformer.model.build import build_model, count_parameters
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape
from altformer.training.memory import keep_freed_memory

GOAL = 1.5


@dataclass(frozen=True)
class Product:
    """One matrix product or attention of the model: shapes of its operands, and whether the first has a gradient."""

    call: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    first_has_grad: bool

    def prepare(self, pool: dict[tuple[int, ...], Tensor]) -> Callable[[], None]:
        """The call with its operands made; `pool` holds the tensors that are only read, which may be shared."""
        operands = [torch.randn(shape, requires_grad=True) for shape in self.shapes]
        if not self.first_has_grad:
            operands[0].requires_grad_(False)
        learned = [operand for operand in operands if operand.requires_grad]
        with torch.no_grad():
            shape = tuple(self.call(*operands).shape)
        gradient = pool.setdefault(shape, torch.randn(shape))

        def forward_and_backward() -> None:
            torch.autograd.grad(self.call(*operands), learned, gradient)

        return forward_and_backward


class ProductRecorder(TorchFunctionMode):
    """Notes the matrix products and attentions of what runs within it."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear:
            x, weight = args[0], args[1]
            rows = x.numel() // x.shape[-1]
            shapes: tuple[tuple[int, ...], ...] = ((rows, x.shape[-1]), tuple(weight.shape))
            self.products.append(Product(functional.linear, shapes, x.requires_grad))
        elif func is functional.scaled_dot_product_attention:
            shapes = tuple(tuple(operand.shape) for operand in args[:3])
            self.products.append(Product(functional.scaled_dot_product_attention, shapes, True))
        return func(*args, **(kwargs or {}))


def random_batch(batch: int, shape: ForecastShape) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Inputs of the model, targets and their mask."""
    size = (batch, shape.input_len, shape.num_sensors)
    target = (batch, shape.output_len, shape.num_sensors)
    inputs = (
        torch.randn(size),
        torch.rand(size) > 0.1,
        torch.randint(shape.steps_per_day, size[:2]),
        torch.randint(7, size[:2]),
    )
    return inputs, torch.randn(target), torch.rand(target) > 0.1


def training_step(model: nn.Module, batch: int, shape: ForecastShape) -> Callable[[], None]:
    """One optimizer step on the same random batch again and again."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-4)
    inputs, target, mask = random_batch(batch, shape)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        error = (model(*inputs) - target).abs() * mask
        loss = error.sum() / mask.sum()
        loss.backward()
        optimizer.step()

    return step


def seconds(work: Callable[[], None]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(step: Callable[[], None], products: Callable[[], None], pairs: int) -> dict[str, Any]:
    """Alternate the two, first one then the other leading, after one unmeasured pair."""
    step_times: list[float] = []
    product_times: list[float] = []
    for pair in range(-1, pairs):
        order = [(step, step_times), (products, product_times)]
        for work, times in order if pair % 2 else reversed(order):
            elapsed = seconds(work)
            if pair >= 0:
                times.append(elapsed)
    ratios = sorted(a / b for a, b in zip(step_times, product_times, strict=True))
    return {
        "pairs": pairs,
        "step_seconds": statistics.median(step_times),
        "products_seconds": statistics.median(product_times),
        "ratio_median": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "ratio_of_minima": min(step_times) / min(product_times),
        "load": round(os.getloadavg()[0], 1),
    }


def run(threads: Sequence[int], pairs: int, batch: int, sensors: int, keep_memory: bool) -> dict[str, Any]:
    """Measure with each number of threads."""
    if keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    config, shape = ModelConfig(), ForecastShape(num_sensors=sensors)
    model = build_model(config, shape).train()
    with ProductRecorder() as recorder:
        model(*random_batch(batch, shape)[0])
    pool: dict[tuple[int, ...], Tensor] = {}
    calls = [product.prepare(pool) for product in recorder.products]

    def products() -> None:
        for call in calls:
            call()

    step = training_step(model, batch, shape)
    results = {}
    for count in threads:
        torch.set_num_threads(count)
        results[str(count)] = measure(step, products, pairs)
    return {
        "model": config.model_dump(),
        "params": count_parameters(model),
        "batch": batch,
        "sensors": sensors,
        "products": len(calls),
        "memory_kept": keep_memory,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": torch.multiprocessing.cpu_count(),
        "goal": GOAL,
        "threads": results,
    }


def as_markdown(result: dict[str, Any]) -> str:
    """The table for people."""
    memory = "kept" if result["memory_kept"] else "returned"
    lines = [
        f"Training step of Phase 1 ({result['params']:,} parameters, batch {result['batch']}, {result['sensors']} "
        f"sensors) against its {result['products']} matrix products and attentions alone; torch {result['torch']}, "
        f"freed memory {memory}; goal: ratio <= {result['goal']}.",
        "",
        "| threads | pairs | step s | products s | ratio (median of pairs) | min .. max | ratio of minima | load |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count, row in result["threads"].items():
        lines.append(
            f"| {count} | {row['pairs']} | {row['step_seconds']:.2f} | {row['products_seconds']:.2f} "
            f"| **{row['ratio_median']:.2f}** | {row['ratio_min']:.2f} .. {row['ratio_max']:.2f} "
            f"| {row['ratio_of_minima']:.2f} | {row['load']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sensors", type=int, default=207)
    parser.add_argument("--keep-memory", action="store_true", help="tell malloc to keep what is freed (glibc)")
    parser.add_argument("--out", type=Path, help="also write the result as JSON to this file")
    args = parser.parse_args()
    result = run(args.threads, args.pairs, args.batch, args.sensors, keep_memory=args.keep_memory)
    print(as_markdown(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
