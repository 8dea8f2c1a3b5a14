"""How fast are windows gathered by index, beside a torch DataLoader over the same windows?

    python -m benchmarks.bench_windows [--rounds 5] [--batches 200] [--workers 0 2] [--out FILE]

Readings of METR-LA's size, made up. The DataLoader's Dataset holds the same readings and gives a window for an index,
the usual way; its batches are the same to the bit, which is checked first. Each pass draws the same batches of an
epoch's random order; they alternate in one process, and ratios are taken pair by pair. A loader with workers keeps them
from pass to pass, so that their start is not counted. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from altformer.data.traffic import TrafficData, read_only
from altformer.data.windows import Batch, Windows
from benchmarks.bench_pairs import alternate, finish, load, per_second, ratio, seconds, table

ROWS, SENSORS = 34272, 207  # METR-LA
LENGTH = 12


def made_up(rows: int, sensors: int) -> TrafficData:
    """Readings of a size, with one in ten missing."""
    random = np.random.default_rng(0)
    values = random.normal(55, 15, (rows, sensors)) * (random.random((rows, sensors)) > 0.1)
    return TrafficData(
        name="made up",
        values=read_only(values.astype(np.float32)),
        times=np.datetime64("2012-03-01T00:00") + np.arange(rows) * np.timedelta64(5, "m"),
        step_minutes=5,
        sensor_ids=tuple(map(str, range(sensors))),
        null_value=0.0,
        split=(0.7, 0.1, 0.2),
        unit="mph",
        adjacency=None,
        user_file=False,
        content_hash="",
    )


class WindowDataset(Dataset[tuple[Tensor, ...]]):
    """One training window for an index, as a tuple in the order of `Batch`."""

    def __init__(self, windows: Windows) -> None:
        self.windows, self.origins = windows, windows.origins["train"].tolist()

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        of, origin = self.windows, self.origins[index]
        past, future = slice(origin - of.input_len, origin), slice(origin, origin + of.output_len)
        reading, target = of.values[past], of.values[future]
        clock = of.time_of_day[past], of.day_of_week[past]
        return of.scaler.scale(reading), reading != of.null_value, *clock, target, target != of.null_value


def loader(windows: Windows, order: Sequence[list[int]], workers: int) -> DataLoader[tuple[Tensor, ...]]:
    """A DataLoader that gives the windows of these indices, batch by batch."""
    return DataLoader(WindowDataset(windows), batch_sampler=order, num_workers=workers, persistent_workers=workers > 0)


def gathered(windows: Windows, order: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """The same batches, gathered as `altformer train` does."""
    for indices in order:
        yield windows.batch(windows.origins["train"][torch.tensor(indices)])


def all_equal(some: Iterator[Batch], others: Iterator[Sequence[Tensor]]) -> bool:
    """Whether all batches are the same to the bit."""
    return all(
        a.dtype == b.dtype and torch.equal(a, b)
        for batch, other in zip(some, others, strict=True)
        for a, b in zip(batch, other, strict=True)
    )


def _drain(batches: Callable[[], Iterator[Any]]) -> None:
    for _ in batches():
        pass


def run(rounds: int, batches: int, batch: int, workers: Sequence[int], rows: int, sensors: int) -> dict[str, Any]:
    """Let gathering and the loaders take turns."""
    torch.set_num_threads(1)
    windows = Windows.of(made_up(rows, sensors), LENGTH, LENGTH)
    shuffled = torch.randperm(len(windows.origins["train"]), generator=torch.Generator().manual_seed(0))
    order = [part.tolist() for part in torch.split(shuffled, batch)[:batches]]
    loaders = {f"DataLoader, {count} workers": loader(windows, order, count) for count in workers}
    equal = all(all_equal(gathered(windows, order), iter(each)) for each in loaders.values())
    ours = "gathered by index"
    works = {ours: partial(_drain, lambda: gathered(windows, order))} | {
        name: partial(_drain, partial(iter, each)) for name, each in loaders.items()
    }
    times = alternate({name: partial(seconds, work) for name, work in works.items()}, rounds)
    size = sum(part.numel() * part.element_size() for part in next(gathered(windows, order)))
    return {
        "batch": batch,
        "batches": len(order),
        "rows": rows,
        "sensors": sensors,
        "rounds": rounds,
        "equal": equal,
        "batch_bytes": size,
        "windows_per_second": {name: per_second(sum(map(len, order)), found) for name, found in times.items()},
        "ratios": {name: ratio(times[name], times[ours]) for name in loaders},
        "load": load(),
    }


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    rows = [
        (
            name,
            f"{rate:,.0f}",
            f"{rate / result['batch'] * result['batch_bytes'] / 1e9:.2f}",
            result["ratios"].get(name, "1"),
        )
        for name, rate in result["windows_per_second"].items()
    ]
    return "\n".join(
        [
            f"{result['batches']} batches of {result['batch']} windows from {result['rows']} x {result['sensors']} "
            f"readings, one thread, {result['rounds']} rounds, load {result['load']}. All give the same batches to the "
            f"bit: {'yes' if result['equal'] else '**no**'}.",
            "",
            table(("way", "windows/s", "GB/s of batches", "its time to that of gathering (min .. max)"), rows),
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_windows", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--sensors", type=int, default=SENSORS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = run(args.rounds, args.batches, args.batch, args.workers, args.rows, args.sensors)
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
