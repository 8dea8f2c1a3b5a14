"""How much slower is a training step of Phase 1 than its matrix products alone, and how near to what the machine can?

    python -m benchmarks.bench_step [--pairs 8] [--threads 1 2] [--out FILE]

The step is forward, masked MAE, backward and AdamW on random readings of 207 sensors. Its products are found by
watching one forward pass, then repeated bare, forward and backward, on tensors of the same shapes: linear maps
without bias, computed as the model's are, and `scaled_dot_product_attention` on contiguous heads, so nothing of the
model's own cost flatters the ratio. Beside them run a large square product, the machine's ceiling, and a sum of large
arrays, its bandwidth. All alternate in one process, and the ratio is taken pair by pair, so that other work on the
machine weighs on all; yet two threads that wait for each other at every operation suffer more from a busy core than a
few long products do, which the load average (1 minute, at the end) beside each row tells. Prints Markdown; `--out`
also writes JSON.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from altformer.model.build import build_model, count_parameters
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape
from altformer.training.memory import keep_freed_memory
from benchmarks.bench_counting import SIDE, ProductRecorder, bandwidth, ceiling, ceilings, traffic
from benchmarks.bench_pairs import Goal, alternate, finish, load, per_second, ratio, seconds, table

GOAL = 1.5


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


def training_step(model: nn.Module, batch: int, shape: ForecastShape, bf16: bool = False) -> Callable[[], None]:
    """One optimizer step on the same random batch again and again; with `bf16` the forward pass is autocast."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-4, fused=True)
    inputs, target, mask = random_batch(batch, shape)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            forecast = model(*inputs)
        error = (forecast.float() - target).abs() * mask
        loss = error.sum() / mask.sum()
        loss.backward()
        optimizer.step()

    return step


def products_of(model: nn.Module, batch: int, shape: ForecastShape) -> ProductRecorder:
    """The matrix products and attentions of one forward pass of the model as it trains, written as such.

    Without oneDNN, since a linear map that goes by way of a convolution (altformer/model/linear.py) is not seen.
    """
    switch: Any = torch.backends.mkldnn
    enabled, switch.enabled = switch.enabled, False
    recorder = ProductRecorder()
    try:
        with recorder:
            model.train()(*random_batch(batch, shape)[0])
    finally:
        switch.enabled = enabled
    return recorder


def measure(
    step: Callable[[], None], products: Callable[[], None], pairs: int, counts: tuple[int, int, int], side: int
) -> dict[str, Any]:
    """Alternate step, products, ceiling and bandwidth; `counts` are samples, FLOP and bytes of a step."""
    samples, flop, moved = counts
    triad, triad_bytes = bandwidth()
    tops = ceilings(torch.float32, side)
    works: dict[str, Callable[[], float]] = {
        "step": partial(seconds, step),
        "products": partial(seconds, products),
        "bandwidth": triad,
        **tops,
    }
    times = alternate(works, pairs)
    each = statistics.median(times["step"])
    return {
        "pairs": pairs,
        "step_seconds": each,
        "products_seconds": statistics.median(times["products"]),
        "ratio": ratio(times["step"], times["products"]),
        "ratio_of_minima": min(times["step"]) / min(times["products"]),
        "samples_per_second": samples / each,
        "flop_per_second": flop / each,
        "ceiling_flop_per_second": ceiling({name: times[name] for name in tops}, side),
        "ceilings": {name: per_second(2 * side**3, times[name]) for name in tops},
        "traffic_per_second": moved / each,
        "bandwidth": per_second(triad_bytes, times["bandwidth"]),
        "load": load(),
    }


def run(
    threads: Sequence[int], pairs: int, batch: int, sensors: int, keep_memory: bool, side: int = SIDE
) -> dict[str, Any]:
    """Measure with each number of threads."""
    if keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    config, shape = ModelConfig(), ForecastShape(num_sensors=sensors)
    model = build_model(config, shape)
    recorder = products_of(model, batch, shape)
    pool: dict[tuple[int, ...], Tensor] = {}
    calls = [product.prepare(pool) for product in recorder.products]

    def products() -> None:
        for call in calls:
            call()

    step = training_step(model, batch, shape)
    counts = (batch, recorder.flop, traffic(step))
    results = {}
    for count in threads:
        torch.set_num_threads(count)
        results[str(count)] = measure(step, products, pairs, counts, side)
    return {
        "model": config.model_dump(),
        "params": count_parameters(model),
        "batch": batch,
        "sensors": sensors,
        "products": len(calls),
        "flop": counts[1],
        "traffic_bytes": counts[2],
        "memory_kept": keep_memory,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": torch.multiprocessing.cpu_count(),
        "goal": [Goal.at_most(f"at most {GOAL} x its products", row["ratio"].median, GOAL) for row in results.values()],
        "threads": results,
    }


def as_markdown(result: dict[str, Any]) -> str:
    """The tables for people."""
    memory = "kept" if result["memory_kept"] else "returned"
    rows = result["threads"].items()
    times = [
        (
            *(count, row["pairs"], f"{row['step_seconds']:.2f}", f"{row['products_seconds']:.2f}", row["ratio"]),
            *(f"{row['ratio_of_minima']:.2f}", row["load"]),
        )
        for count, row in rows
    ]
    rates = [
        (
            *(count, f"{row['samples_per_second']:.1f}", f"{row['flop_per_second'] / 1e9:.0f}"),
            *(f"{row['ceilings']['mm'] / 1e9:.0f}", f"{row['ceilings']['conv'] / 1e9:.0f}"),
            f"**{row['flop_per_second'] / row['ceiling_flop_per_second']:.0%}**",
            *(f"{row['traffic_per_second'] / 1e9:.1f}", f"{row['bandwidth'] / 1e9:.1f}"),
            f"{row['traffic_per_second'] / row['bandwidth']:.0%}",
        )
        for count, row in rows
    ]
    goals = [f"{count} threads: {goal}" for count, goal in zip(result["threads"], result["goal"], strict=True)]
    return "\n".join(
        [
            f"Training step of Phase 1 ({result['params']:,} parameters, batch {result['batch']}, {result['sensors']} "
            f"sensors) against its {result['products']} matrix products and attentions alone; torch {result['torch']}, "
            f"freed memory {memory}. Products are {result['flop'] / 1e9:.0f} GFLOP a step; operators read and write "
            f"{result['traffic_bytes'] / 1e9:.1f} GB, caches not counted.",
            "",
            table(("threads", "pairs", "step s", "products s", "ratio (min .. max)", "of minima", "load"), times),
            "",
            table(
                (
                    *("threads", "samples/s", "GFLOP/s", "ceiling: `mm`", "1 x 1 convolution", "of the higher"),
                    *("operators' GB/s", "bandwidth", "share"),
                ),
                rates,
            ),
            "",
            *goals,
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sensors", type=int, default=207)
    parser.add_argument("--side", type=int, default=SIDE, help="of the matrices whose product is the ceiling")
    parser.add_argument("--return-memory", action="store_true", help="leave malloc as it is: freed memory goes back")
    parser.add_argument("--out", type=Path, help="also write the result as JSON to this file")
    args = parser.parse_args()
    result = run(args.threads, args.pairs, args.batch, args.sensors, not args.return_memory, args.side)
    finish(as_markdown(result), result, args.out)


if __name__ == "__main__":
    main()
