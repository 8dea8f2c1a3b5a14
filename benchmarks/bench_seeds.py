"""How many more seed-epochs a second do seeds give that are trained together, beside one after the other?

    python -m benchmarks.bench_seeds [--seeds 4] [--rounds 3] [--threads 2] [--out FILE]

The quick profile's model and one three times as wide on made-up readings of METR-LA's size, one epoch of a few steps
as `altformer train` runs it: `altformer.train.train` for each seed, and `altformer.training.together` once for all.
Times are those of the training steps, by the runs' own clocks; both take turns in one process, and the ratio is taken
pair by pair. On a GPU the same seeds are also trained by as many processes at once, each with its share of the card's
memory: what `--gpus-per-worker` does in a matrix. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from altformer.config import Config
from altformer.data.traffic import TrafficData
from altformer.model.build import build_model, count_parameters
from altformer.model.shape import ForecastShape
from altformer.train import train
from altformer.training.context import BareContext
from altformer.training.together import Member, train_together
from benchmarks.bench_pairs import Goal, Ratio, alternate, finish, load, ratio, table
from benchmarks.bench_windows import ROWS, SENSORS, made_up
from experiments.compose import compose, find_experiment

GOAL = 2.5
MODELS: dict[str, dict[str, Any]] = {"quick profile": {}, "wide": {"embed_dim": 96}}
APART, TOGETHER, PROCESSES = "one after the other", "together", "processes at once"
_TOGETHER_SECONDS = 300  # for the slowest process's first epoch; without one that died the others would wait
_UNSEEN = 10**6  # stride: a single window is scored

Seconds = Callable[[], float]


def config_of(fields: Mapping[str, Any], steps: int) -> Config:
    """One epoch of so many steps of the quick profile, with some fields of it changed."""
    given = {"epochs": 1, "steps_per_epoch": steps, "val_stride": _UNSEEN, "test_stride": _UNSEEN, **fields}
    return compose(find_experiment("METR-LA_alternating"), profile="quick", settings=given)


def seconds_of(config: Config, curve: Sequence[Mapping[str, float]]) -> float:
    """What an epoch's steps took, or a seed's share of them."""
    training = config.training
    return (training.steps_per_epoch or 0) * training.batch_size / curve[-1]["samples_per_second"]


def works_of(config: Config, data: TrafficData, seeds: int, device: str, folder: Path) -> dict[str, Seconds]:
    """Each way to train the seeds, as a function that does it and gives the seconds of all steps."""
    configs = [config.model_copy(update={"seed": seed}) for seed in range(seeds)]
    numbers = itertools.count()

    def fresh() -> Path:
        return folder / str(next(numbers))

    def apart() -> float:
        return sum(seconds_of(one, train(one, data, BareContext(device), fresh()).curve) for one in configs)

    def together() -> float:
        members = [Member(one, BareContext(device), fresh()) for one in configs]
        return sum(seconds_of(config, result.curve) for _, result in train_together(members, data))

    works = {APART: apart, TOGETHER: together}
    return works if device == "cpu" else works | {PROCESSES: partial(processes_at_once, configs, data, device, folder)}


class Waiting(BareContext):
    """Lets the last epoch of all processes begin at the same time."""

    def __init__(self, device: str, barrier: Any) -> None:
        super().__init__(device)
        self._barrier = barrier

    def report(self, metrics: Mapping[str, float]) -> None:
        if metrics["epoch"] == 1:
            self._barrier.wait(timeout=_TOGETHER_SECONDS)


def processes_at_once(configs: Sequence[Config], data: TrafficData, device: str, folder: Path) -> float:
    """What the steps of the slowest process take, in an epoch that all begin at once, after one to warm up."""
    spawn = multiprocessing.get_context("spawn")
    barrier, times = spawn.Barrier(len(configs)), spawn.Queue()
    found = [
        spawn.Process(target=_in_process, args=(one, data, device, len(configs), folder, barrier, times), daemon=True)
        for one in configs
    ]
    for process in found:
        process.start()
    took = [times.get(timeout=600) for _ in found]
    for process in found:
        process.join()
    return float(max(took))


def _in_process(
    config: Config, data: TrafficData, device: str, share: int, folder: Path, barrier: Any, times: Any
) -> None:
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(1 / share)
    torch.set_num_threads(1)
    two = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 2})})
    with tempfile.TemporaryDirectory(dir=folder) as name:
        result = train(two, data, Waiting(device, barrier), Path(name))
    times.put(seconds_of(config, result.curve))


def measure(config: Config, data: TrafficData, seeds: int, rounds: int, device: str) -> dict[str, Any]:
    """Rates and ratios of one model."""
    with tempfile.TemporaryDirectory() as name:
        times = alternate(works_of(config, data, seeds, device, Path(name)), rounds)
    steps = config.training.steps_per_epoch or 0
    return {
        "params": count_parameters(
            build_model(config.model, ForecastShape.of(data, config.dataset.input_len, config.dataset.output_len))
        ),
        "batch": config.training.batch_size,
        "seed_steps_per_second": {name: seeds * steps / statistics.median(found) for name, found in times.items()},
        "ratios": {name: ratio(times[APART], found) for name, found in times.items() if name != APART},
        "load": load(),
    }


def goals_of(models: Mapping[str, Mapping[str, Any]], device: str) -> list[Goal]:
    """Whether the best way to share a card is good enough; none on a CPU, of which nothing is asked."""
    if device == "cpu":
        return []
    best = {name: max(found["ratios"].values(), key=lambda one: one.median) for name, found in models.items()}
    return [Goal.at_least(_goal(name), found.median, GOAL) for name, found in best.items()]


def _goal(name: str) -> str:
    return f"{name}: at least {GOAL} x the seed-epochs a second of one trial a card"


def markdown(result: Mapping[str, Any]) -> str:
    """The table."""
    rows = []
    for name, found in result["models"].items():
        for way, rate in found["seed_steps_per_second"].items():
            above = Ratio(**vars(found["ratios"][way])) if way in found["ratios"] else "1"
            rows.append((name, f"{found['params']:,}", way, f"{rate:.2f}", above, found["load"]))
    first = next(iter(result["models"].values()))
    goals = [str(goal) for goal in result["goals"]] or [
        f"Goal: {_goal(name)}: needs a GPU." for name in result["models"]
    ]
    return "\n".join(
        [
            f"{result['seeds']} seeds on {result['where']}, {result['sensors']} sensors, batch {first['batch']}, "
            f"{result['threads']} threads, {result['rounds']} rounds.",
            "",
            table(("model", "parameters", "seeds trained", "seed-steps/s", "ratio (min .. max)", "load"), rows),
            "",
            *goals,
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_seeds", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="an epoch (default: 2 on a CPU, 50 on a GPU)")
    parser.add_argument("--batch", type=int, help="default: the profile's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--sensors", type=int, default=SENSORS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, batch = made_up(args.rows, args.sensors), {} if args.batch is None else {"batch_size": args.batch}
    steps = args.steps or (2 if args.device == "cpu" else 50)
    models = {
        name: measure(config_of(fields | batch, steps), data, args.seeds, args.rounds, args.device)
        for name, fields in MODELS.items()
    }
    result = {
        "seeds": args.seeds,
        "rounds": args.rounds,
        "threads": args.threads,
        "sensors": args.sensors,
        "where": "a CPU" if args.device == "cpu" else torch.cuda.get_device_name(),
        "models": models,
        "goals": goals_of(models, args.device),
    }
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
