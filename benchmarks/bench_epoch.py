"""What does an epoch cost beside its bare steps, validation beside its forward passes, a checkpoint beside its bytes?

    python -m benchmarks.bench_epoch [--rounds 4] [--steps 4] [--threads 2] [--out FILE]

Phase 1 on made-up readings of METR-LA's size. An epoch is one of `altformer.train.train` as a user runs it, limited to
a few steps: order, gathering, loss, clipping, the look for infinities, the signs of life; it is compared with bare
steps of the same model on a fixed batch. Validation is compared with its forward passes alone, on batches at hand. A
checkpoint's write (with flush to the disk and checksums) is compared with `torch.save` of the same tensors, its read
(checksums verified) with `torch.load`. All alternate in one process. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from altformer.config import Config
from altformer.data.config import DatasetConfig
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.evaluate import SCORING_BATCH, model_forecaster, score
from altformer.model.build import build_model, count_parameters
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape
from altformer.train import train
from altformer.training.checkpoint import Checkpoints, DataFacts, Progress
from altformer.training.config import TrainingConfig
from altformer.training.context import BareContext
from altformer.training.memory import keep_freed_memory
from altformer.training.optimizer import Optimizer, make_optimizer
from benchmarks.bench_pairs import Ratio, alternate, finish, load, per_second, ratio, seconds, table
from benchmarks.bench_step import training_step
from benchmarks.bench_windows import LENGTH, ROWS, SENSORS, made_up

_IDENTITY = "bench"


def config_of(batch: int, steps: int, model: ModelConfig, stride: int) -> Config:
    """One epoch of so many steps; `stride` of validation and test."""
    return Config(
        dataset=DatasetConfig(
            name="METR-LA", input_len=LENGTH, output_len=LENGTH, val_stride=stride, test_stride=stride
        ),
        model=model,
        training=TrainingConfig(batch_size=batch, epochs=1, steps_per_epoch=steps),
    )


def epoch(config: Config, data: TrafficData, folder: Path, numbers: itertools.count[int]) -> float:
    """Seconds of an epoch's training steps, by the run's own clock."""
    result = train(config, data, BareContext(), folder / str(next(numbers)))
    training = config.training
    return (training.steps_per_epoch or 0) * training.batch_size / result.curve[0]["samples_per_second"]


def validation(model: nn.Module, windows: Windows, stride: int) -> dict[str, Callable[[], object]]:
    """Scoring of the validation part, and its forward passes alone."""
    origins = windows.origins["val"][::stride]
    batches = [windows.batch(chunk) for chunk in torch.split(origins, SCORING_BATCH)]

    def forward() -> None:
        model.eval()
        with torch.inference_mode():
            for batch in batches:
                model(*batch.inputs)

    return {
        "validation": lambda: score(model_forecaster(model, windows), windows, "val", stride),
        "forward passes": forward,
    }


def checkpoint(
    config: Config, data: TrafficData, windows: Windows, model: nn.Module, optimizer: Optimizer, folder: Path
) -> dict[str, Callable[[], object]]:
    """Write and read of a checkpoint, and of the same tensors by torch alone."""
    facts = DataFacts.of(data, windows).model_dump(mode="json")
    checkpoints = Checkpoints(folder / "checkpoints", config, facts)
    progress, plain = Progress(_IDENTITY), folder / "plain.pt"

    def write() -> None:
        progress.add({"epoch": progress.epoch + 1.0, "val_mae": 1 / (progress.epoch + 1)}, {})
        checkpoints.save(model, optimizer, progress)

    def read() -> None:
        if checkpoints.load_last(_IDENTITY, model, optimizer, torch.device("cpu")).epoch != progress.epoch:
            raise RuntimeError("the last checkpoint was not read")

    def torch_read() -> None:
        model_state, optimizer_state = torch.load(plain, weights_only=True)
        model.load_state_dict(model_state)
        optimizer.load_state_dict(optimizer_state)

    return {
        "write": write,
        "torch.save": lambda: torch.save((model.state_dict(), optimizer.state_dict()), plain),
        "read": read,
        "torch.load": torch_read,
    }


def run(
    rounds: int, steps: int, batch: int, threads: int, rows: int, sensors: int, stride: int, model: ModelConfig
) -> dict[str, Any]:
    """Let everything take turns."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    config, data = config_of(batch, steps, model, stride), made_up(rows, sensors)
    windows, shape = Windows.of(data, LENGTH, LENGTH), ForecastShape(num_sensors=sensors)
    torch.manual_seed(0)
    own, bare = build_model(model, shape), build_model(model, shape).train()
    optimizer, step = make_optimizer(config.training, own), training_step(bare, batch, shape)
    for parameter in own.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # so that it has moments to keep

    def bare_steps() -> None:
        for _ in range(steps):
            step()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        works = {"bare steps": bare_steps, **validation(own, windows, stride)}
        works |= checkpoint(config, data, windows, own, optimizer, folder)
        timed = {key: partial(seconds, work) for key, work in works.items()}
        times = alternate({"epoch": partial(epoch, config, data, folder, itertools.count()), **timed}, rounds)
        size = sum(file.stat().st_size for file in max((folder / "checkpoints").iterdir()).iterdir())
    compared = [
        ("epoch", "bare steps"),
        ("validation", "forward passes"),
        ("write", "torch.save"),
        ("read", "torch.load"),
    ]
    scored = len(windows.origins["val"][::stride])
    return {
        "params": count_parameters(own),
        "batch": batch,
        "steps": steps,
        "threads": threads,
        "sensors": sensors,
        "rounds": rounds,
        "scored_windows": scored,
        "checkpoint_bytes": size,
        "seconds": {key: statistics.median(found) for key, found in times.items()},
        "samples_per_second": per_second(batch * steps, times["epoch"]),
        "scored_per_second": per_second(scored, times["validation"]),
        "ratios": {above: {"to": below, **vars(ratio(times[above], times[below]))} for above, below in compared},
        "load": load(),
    }


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    took = result["seconds"]
    what = {
        "epoch": f"training steps of an epoch: {result['samples_per_second']:.1f} samples/s",
        "validation": f"validation of {result['scored_windows']} windows: {result['scored_per_second']:.1f} windows/s",
        "write": f"checkpoint of {result['checkpoint_bytes'] / 1e6:.1f} MB: write",
        "read": "checkpoint: read",
    }
    rows = []
    for name, found in result["ratios"].items():
        spread = Ratio(found["median"], found["least"], found["greatest"])
        rows.append((what[name], f"{took[name]:.3f}", found["to"], f"{took[found['to']]:.3f}", spread))
    return "\n".join(
        [
            f"Phase 1, {result['params']:,} parameters, {result['sensors']} sensors, {result['steps']} steps of batch "
            f"{result['batch']}, {result['threads']} threads, {result['rounds']} rounds, load {result['load']}.",
            "",
            table(("what", "s", "beside", "s", "ratio (min .. max)"), rows),
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_epoch", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--sensors", type=int, default=SENSORS)
    parser.add_argument("--stride", type=int, default=48, help="of the windows that are scored")
    parser.add_argument("--embed-dim", type=int, default=ModelConfig().embed_dim)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = ModelConfig(embed_dim=args.embed_dim)
    result = run(args.rounds, args.steps, args.batch, args.threads, args.rows, args.sensors, args.stride, model)
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
