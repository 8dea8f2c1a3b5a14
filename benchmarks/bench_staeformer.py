"""How many more windows a second does Phase 1 train on than STAEformer as published?

    python -m benchmarks.bench_staeformer [--rounds 5] [--threads 2] [--batch 16] [--out FILE]

The same batch of 207 sensors for all, the same loss and optimizer. Each variant lives in a process of its own, so that
none inherits how another handles memory; two at a time take turns, step by step: only one computes. Ours keeps
freed memory, as `altformer train` does; the published form runs as torch sets a process up, and once more with memory
kept, which is more than it does by itself. The ceiling (see benchmarks.bench_counting) takes its turn with them. bf16
is autocast, on both sides; `torch.compile` with its defaults. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

import torch
from torch import nn

from altformer.baselines.config import StaeformerConfig
from altformer.model.build import build_model, count_parameters
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape
from altformer.training.memory import keep_freed_memory
from benchmarks.bench_counting import SIDE, ceiling, ceilings
from benchmarks.bench_pairs import Goal, Ratio, alternate, finish, load, per_second, ratio, seconds, table
from benchmarks.bench_published import PublishedStaeformer
from benchmarks.bench_step import products_of, training_step

GOAL, CEILING_SHARE = 1.8, 0.9
_PATIENCE = 600.0  # seconds for a step; the first one of a compiled model takes minutes

ModelName = Literal["phase1", "published", "staeformer"]


@dataclass(frozen=True)
class Variant:
    """A model and how it trains."""

    model: ModelName
    bf16: bool = False
    compiled: bool = False
    keeps_memory: bool = True

    @property
    def name(self) -> str:
        """For tables."""
        shown = {"phase1": "Phase 1", "published": "STAEformer as published", "staeformer": "our STAEformer"}
        ways = ["bf16"] * self.bf16 + ["compiled"] * self.compiled
        if self.model == "published" and self.keeps_memory:
            ways.append("memory kept")
        return ", ".join([shown[self.model], *ways])


PHASE_1, PUBLISHED = Variant("phase1"), Variant("published", keeps_memory=False)
PAIRS = (  # what is divided by what; the first is the goal's
    (PHASE_1, PUBLISHED),
    (PHASE_1, Variant("published")),
    (PHASE_1, Variant("staeformer")),
    (Variant("phase1", bf16=True), Variant("published", bf16=True, keeps_memory=False)),
    (Variant("phase1", compiled=True), Variant("published", compiled=True, keeps_memory=False)),
)


def model_of(name: ModelName, shape: ForecastShape) -> nn.Module:
    """A new model of the published or the guide's size."""
    if name == "published":
        return PublishedStaeformer(StaeformerConfig(), shape)
    return build_model(ModelConfig() if name == "phase1" else StaeformerConfig(), shape)


def _serve(pipe: Connection, variant: Variant, batch: int, sensors: int, threads: int) -> None:
    """Do a step whenever asked and answer how long it took; first, what the model is made of."""
    torch.set_num_threads(threads)
    if variant.keeps_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    shape = ForecastShape(num_sensors=sensors)
    model = model_of(variant.model, shape)
    pipe.send((count_parameters(model), products_of(model, batch, shape).flop))
    trained = cast(nn.Module, torch.compile(model)) if variant.compiled else model
    step = training_step(trained, batch, shape, variant.bf16)
    with contextlib.suppress(EOFError):  # the other side is gone
        while pipe.recv():
            pipe.send(seconds(step))


class Runner:
    """A variant in a process of its own; a context manager, whose end is the process's."""

    def __init__(self, variant: Variant, batch: int, sensors: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, variant, batch, sensors, threads), daemon=True)
        self._process.start()
        theirs.close()
        self._name = variant.name
        self.params, self.flop = self._answer()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.join()

    def step(self) -> float:
        """Seconds of one training step; RuntimeError where the process is gone or does not answer."""
        self._pipe.send(True)
        return float(self._answer())

    def _answer(self) -> Any:
        try:
            if self._pipe.poll(_PATIENCE):
                return self._pipe.recv()
        except EOFError:
            pass
        raise RuntimeError(f"{self._name}: its process has ended or does not answer")


def allowed(top: float, flop_per_sample: float, published: float) -> float:
    """The ratio of samples/s that a Phase 1 at the ceiling `top` (FLOP/s) would have to `published` samples/s."""
    return top / flop_per_sample / published


def goal_of(reached: Ratio, most: float) -> Goal:
    """1.8, or 90 % of what the ceiling allows where that is less."""
    bound = min(GOAL, CEILING_SHARE * most)
    text = (
        f"at least {GOAL} x the samples/s of the published form in fp32, or {CEILING_SHARE:.0%} of the {most:.2f} x "
        f"that the ceiling allows: {bound:.2f}"
    )
    return Goal.at_least(text, reached.median, bound)


def run(
    rounds: int, threads: int, batch: int, sensors: int, pairs: Sequence[tuple[Variant, Variant]], side: int = SIDE
) -> dict[str, Any]:
    """Measure pair by pair, each with the ceiling beside it; the first is the goal's."""
    torch.set_num_threads(threads)
    tops = ceilings(torch.float32, side)
    found = [measure(pair, tops, rounds, batch, sensors, threads, side) for pair in pairs]
    first = found[0]
    top, flop = first["ceiling_flop_per_second"], first["flop_per_sample"]
    most = allowed(top, flop, first["samples_per_second"][1])
    return {
        "torch": torch.__version__,
        "batch": batch,
        "sensors": sensors,
        "threads": threads,
        "rounds": rounds,
        "pairs": found,
        "share_of_ceiling": flop * first["samples_per_second"][0] / top,
        "goal": goal_of(first["ratio"], most),
        "load": load(),
    }


def measure(
    pair: tuple[Variant, Variant],
    tops: Mapping[str, Callable[[], float]],
    rounds: int,
    batch: int,
    sensors: int,
    threads: int,
    side: int,
) -> dict[str, Any]:
    """Let two variants and the ceiling take turns; only their two processes, some GB each, exist meanwhile."""
    with ExitStack() as stack:
        runners = [stack.enter_context(Runner(each, batch, sensors, threads)) for each in pair]
        for runner in runners:
            runner.step()  # compiles, one after the other
        works = {each.name: runner.step for each, runner in zip(pair, runners, strict=True)}
        times = alternate({**works, **tops}, rounds)
    above, below = (times[each.name] for each in pair)
    return {
        "variants": pair,
        "names": [each.name for each in pair],
        "params": [runner.params for runner in runners],
        "step_seconds": [statistics.median(above), statistics.median(below)],
        "samples_per_second": [per_second(batch, above), per_second(batch, below)],
        "ratio": ratio(below, above),  # of rates, so times upside down
        "flop_per_sample": runners[0].flop / batch,
        "ceiling_flop_per_second": ceiling({name: times[name] for name in tops}, side),
    }


def markdown(result: dict[str, Any]) -> str:
    """The table and the goal."""
    first = result["pairs"][0]
    rows = [
        (
            *(f"{name} ({params:,})" for name, params in zip(found["names"], found["params"], strict=True)),
            *(f"{each:.2f}" for each in found["step_seconds"]),
            *(f"{each:.2f}" for each in found["samples_per_second"]),
            found["ratio"],
        )
        for found in result["pairs"]
    ]
    head = (
        *("samples/s of (parameters)", "to those of", "step s", "its step s", "samples/s", "its samples/s"),
        "ratio (min .. max)",
    )
    return "\n".join(
        [
            f"Batch {result['batch']}, {result['sensors']} sensors, {result['threads']} threads, {result['rounds']} "
            f"rounds, torch {result['torch']}, load {result['load']}. Phase 1 in fp32 computes "
            f"{first['flop_per_sample'] / 1e9:.1f} GFLOP of products a window, at {result['share_of_ceiling']:.0%} of "
            f"the measured ceiling of {first['ceiling_flop_per_second'] / 1e9:.0f} GFLOP/s.",
            "",
            table(head, rows),
            "",
            str(result["goal"]),
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_staeformer", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sensors", type=int, default=207)
    parser.add_argument("--side", type=int, default=SIDE, help="of the matrices whose product is the ceiling")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    pairs = [pair for pair in PAIRS if not (args.no_compile and pair[0].compiled)]
    result = run(args.rounds, args.threads, args.batch, args.sensors, pairs, args.side)
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
