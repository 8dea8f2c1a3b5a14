"""How many more windows a second does Phase 1 train on than STAEformer as published?

    python -m benchmarks.bench_staeformer [--rounds 5] [--threads 2] [--batch 16] [--out FILE]

The same batch of 207 sensors for all, the same loss and optimizer. Each variant lives in a process of its own, so that
none inherits how another handles memory, and they take turns, step by step: only one computes at a time. Ours keeps
freed memory, as `altformer train` does; the published form runs as torch sets a process up, and once more with memory
kept, which is more than it does by itself. The ceiling (see benchmarks.bench_counting) takes its turn with them. bf16
is autocast, on both sides; `torch.compile` with its defaults. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

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
    trained = torch.compile(model) if variant.compiled else model
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
    """Let all variants and the ceiling take turns."""
    variants = list(dict.fromkeys(variant for pair in pairs for variant in pair))
    torch.set_num_threads(threads)
    tops = ceilings(torch.float32, side)
    with ExitStack() as stack:
        runners = {each.name: stack.enter_context(Runner(each, batch, sensors, threads)) for each in variants}
        for runner in runners.values():
            runner.step()  # compiles, one after the other
        times = alternate({**{name: runner.step for name, runner in runners.items()}, **tops}, rounds)
        flop, params = runners[PHASE_1.name].flop, {name: runner.params for name, runner in runners.items()}
    top = ceiling({name: times[name] for name in tops}, side)
    ratios = [ratio(times[below.name], times[above.name]) for above, below in pairs]  # of rates, so times upside down
    published = per_second(batch, times[PUBLISHED.name])
    return {
        "torch": torch.__version__,
        "batch": batch,
        "sensors": sensors,
        "threads": threads,
        "rounds": rounds,
        "params": params,
        "step_seconds": {each.name: statistics.median(times[each.name]) for each in variants},
        "samples_per_second": {each.name: per_second(batch, times[each.name]) for each in variants},
        "flop_per_sample": flop / batch,
        "ceiling_flop_per_second": top,
        "share_of_ceiling": flop / statistics.median(times[PHASE_1.name]) / top,
        "ratios": [
            {"of": asdict(above), "to": asdict(below), "names": [above.name, below.name], "ratio": asdict(found)}
            for (above, below), found in zip(pairs, ratios, strict=True)
        ],
        "goal": asdict(goal_of(ratios[0], allowed(top, flop / batch, published))),
        "load": load(),
    }


def markdown(result: dict[str, Any]) -> str:
    """The tables and the goal."""
    rates = result["samples_per_second"]
    rows = [
        (name, f"{result['params'][name]:,}", f"{result['step_seconds'][name]:.2f}", f"{rate:.2f}")
        for name, rate in rates.items()
    ]
    compared = [(*each["names"], Ratio(**each["ratio"])) for each in result["ratios"]]
    return "\n".join(
        [
            f"Batch {result['batch']}, {result['sensors']} sensors, {result['threads']} threads, {result['rounds']} "
            f"rounds, torch {result['torch']}, load {result['load']}. Phase 1 in fp32 computes "
            f"{result['flop_per_sample'] / 1e9:.1f} GFLOP of products a window, at {result['share_of_ceiling']:.0%} of "
            f"the measured ceiling of {result['ceiling_flop_per_second'] / 1e9:.0f} GFLOP/s.",
            "",
            table(("training", "parameters", "step s", "samples/s"), rows),
            "",
            table(("samples/s of", "to those of", "ratio (min .. max)"), compared),
            "",
            str(Goal(**result["goal"])),
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
