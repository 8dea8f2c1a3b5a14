"""How long does a matrix of 24 cells take, beside the ideal, a bash loop, and the form that Ray documents?

    python -m benchmarks.bench_matrix [--cells 24] [--sample 6] [--rounds 3] [--long-seconds 20] [--out FILE]

The cells are real: eight learning rates with three seeds of the quick profile on the simulated network, with as many
steps as train for the wanted seconds on this machine, which a first training finds out. Times are those of whole
commands, from start to exit, plan, probe, MLflow and report included:

- `altformer ablate` on all cells;
- (a) the ideal: the seconds that the same run's cells trained and validated, by their records, over the slots;
- (b) a bash loop of `altformer train` with one thread, one after the other, and two at a time (`xargs -P`);
- (c) benchmarks.bench_tune_function, in as many slots.

Cells of a second: in each round ours runs all cells, the loops and (c) a sample of them, one after the other, and their
time is scaled to all cells, (c)'s without the start of Ray, which is added once. A loop is as long as its turns, so
nothing is lost by that. Cells of the longer kind run once, with ours alone. Where records are of the same cells they
must have the same scores. Prints Markdown; `--out` also writes JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench_pairs import Goal, Ratio, alternate, finish, load, ratio, seconds, table
from experiments.compose import compose, find_experiment

ROOT = Path(__file__).parents[1]
ALTFORMER = [sys.executable, "-m", "experiments.cli"]
SEEDS, BATCH = 3, 8  # the profile's batch
IDEAL_GOAL, LOOP_GOAL, TUNE_GOAL = 1.08, 3.0, 10.0
_EPOCHS = 2
_CALIBRATION_STEPS = 40
_LIMIT = 1800.0  # seconds for one command: the documented form is known to hang
OURS, LOOP, TWO_LOOPS, TUNE = "altformer ablate", "(b) bash loop", "(b) two loops", "(c) Tune function"

Run = dict[str, Any]


@dataclass(frozen=True)
class Cells:
    """The cells of one length: their number, a multiple of the seeds, and their steps an epoch."""

    count: int
    steps: int

    @property
    def rates(self) -> list[float]:
        """One learning rate for each arm."""
        return [round(1e-3 * (1 + arm / 10), 6) for arm in range(self.count // SEEDS)]

    @property
    def settings(self) -> dict[str, float]:
        """What every cell has in common besides the profile."""
        return {"epochs": _EPOCHS, "steps_per_epoch": self.steps}

    def matrix(self) -> str:
        """Its YAML."""
        grid = {"name": "bench", "base": "simulated", "grid": {"lr": self.rates}, "baseline": f"lr={self.rates[0]:g}"}
        return json.dumps({**grid, "settings": self.settings, "seeds": SEEDS, "scheduler": "none"})

    def each(self, sample: int) -> Iterator[dict[str, float]]:
        """The fields of the first `sample` cells."""
        pairs = itertools.product(range(SEEDS), self.rates)
        return ({"lr": rate, "seed": seed, **self.settings} for seed, rate in itertools.islice(pairs, sample))


def command(words: Sequence[str], folder: Path) -> str:
    """Run a command in the project's folder, without its log; RuntimeError with it where it fails or takes too long."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    log = folder / "log.txt"
    with log.open("w") as errors:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=_LIMIT,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(
            f"{shlex.join(words[:6])} ...: exit code {done.returncode}\n{done.stdout}\n{log.read_text()}"
        )
    return done.stdout


def records(out: Path) -> dict[str, Run]:
    """The records below a folder of runs, by the cell's hash."""
    found = {path.parent.name: json.loads(path.read_text()) for path in out.glob("cells/*/record.json")}
    if any(record["status"] != "done" for record in found.values()):
        raise RuntimeError(f"{out}: not all cells are done")
    return found


def train_words(fields: Mapping[str, float], out: Path) -> list[str]:
    """One turn of the loop."""
    options = [word for name, value in fields.items() for word in (f"--{name}", f"{value:g}")]
    fixed = ["--cfg", "simulated", "--profile", "quick", "--device", "cpu", "--threads", "1", "--out", str(out)]
    return [*ALTFORMER, "train", *fixed, *options]


def calibrated(lengths: Sequence[float], folder: Path) -> list[int]:
    """Steps an epoch for cells of so many seconds, by a first training on this machine."""
    fields = {"lr": 1e-3, "seed": 99, "epochs": 1, "steps_per_epoch": _CALIBRATION_STEPS}
    command(train_words(fields, folder), folder)
    [record] = records(folder).values()
    [epoch] = record["curve"]
    return [steps_for(length, epoch["epoch_seconds"], epoch["samples_per_second"]) for length in lengths]


def steps_for(length: float, epoch_seconds: float, samples_per_second: float) -> int:
    """Steps of each epoch of a cell that is to train and validate for `length` seconds, from a measured epoch."""
    step = BATCH / samples_per_second
    validation = max(epoch_seconds - _CALIBRATION_STEPS * step, 0.0)
    return max(1, round((length / _EPOCHS - validation) / step))


class Bench:
    """The ways to train the same cells, each in a new folder below one that is removed in the end."""

    def __init__(self, cells: Cells, folder: Path, slots: int) -> None:
        self._cells, self._folder, self._slots = cells, folder, slots
        self._numbers = itertools.count()
        self.scores: dict[str, set[str]] = {}  # by the cell's hash: all there were, which must be one
        self.seen: dict[str, set[str]] = {OURS: set(), LOOP: set()}  # the hashes that each has trained

    def ours(self) -> Run:
        """The whole matrix as one command."""
        out = self._new()
        matrix = out / "bench.yaml"
        matrix.write_text(self._cells.matrix())
        words = [*ALTFORMER, "ablate", str(matrix), "--profile", "quick", "--gpus-per-worker", "0", "--out", str(out)]
        took = seconds(partial(command, words, out))
        found = self._noted(OURS, out, self._cells.count)
        trained = sum(record["train_seconds"] for record in found.values())
        return {"seconds": took, "trained": trained, "ideal": trained / self._slots}

    def loop(self, sample: int, at_once: int) -> float:
        """Seconds of a bash loop over a sample, scaled to all cells."""
        out = self._new()
        lines = [shlex.join(train_words(fields, out)) for fields in self._cells.each(sample)]
        script = out / "loop.sh"
        if at_once == 1:
            script.write_text("set -e\n" + "\n".join(f"{line} > /dev/null" for line in lines))
        else:
            quoted = " ".join(shlex.quote(f"{line} > /dev/null") for line in lines)
            script.write_text(f"printf '%s\\0' {quoted} | xargs -0 -n 1 -P {at_once} bash -c")
        took = seconds(partial(command, ["bash", str(script)], out))
        self._noted(LOOP, out, sample)
        return took * self._cells.count / sample

    def tune_function(self, sample: int) -> float:
        """Seconds of the documented form over a sample, its sweep scaled to all cells."""
        out = self._new()
        file = out / "cells.json"
        path = find_experiment("simulated")
        configs = [compose(path, profile="quick", settings=dict(fields)) for fields in self._cells.each(sample)]
        file.write_text(json.dumps([config.model_dump(mode="json") for config in configs]))
        words = ["--storage", str(out), "--slots", str(self._slots)]
        printed = command([sys.executable, "-m", "benchmarks.bench_tune_function", str(file), *words], out)
        said = json.loads(printed.splitlines()[-1])
        return float(said["start_seconds"] + said["sweep_seconds"] * self._cells.count / sample)

    def _new(self) -> Path:
        out = self._folder / str(next(self._numbers))
        out.mkdir()
        return out

    def _noted(self, way: str, out: Path, count: int) -> dict[str, Run]:
        found = records(out)
        if len(found) != count:
            raise RuntimeError(f"{out}: {len(found)} cells are done, not {count}")
        for key, record in found.items():
            self.seen[way].add(key)
            self.scores.setdefault(key, set()).add(json.dumps(record["test"], sort_keys=True))
        return found


def compare(cells: Cells, sample: int, rounds: int, slots: int, folder: Path) -> Run:
    """All ways in turn."""
    bench = Bench(cells, folder, slots)
    own: list[Run] = []

    def ours() -> float:
        own.append(bench.ours())
        return float(own[-1]["seconds"])

    works: dict[str, Callable[[], float]] = {
        OURS: ours,
        LOOP: partial(bench.loop, sample, 1),
        TWO_LOOPS: partial(bench.loop, sample, 2),
        TUNE: partial(bench.tune_function, sample),
    }
    times = alternate(works, rounds, warm_up=0)
    return {
        "cells": cells.count,
        "sample": sample,
        "rounds": rounds,
        "trained": [each["trained"] / cells.count for each in own],
        "seconds": times,
        "ratios": {
            "(a) ideal": asdict(ratio(times[OURS], [each["ideal"] for each in own])),
            **{name: asdict(ratio(found, times[OURS])) for name, found in times.items() if name != OURS},
        },
        "same_scores": all(len(found) == 1 for found in bench.scores.values()),
        "shared_cells": len(bench.seen[OURS] & bench.seen[LOOP]),
        "load": load(),
    }


def goals(short: Run, long: Run | None) -> list[Goal]:
    """The three of the matrix."""
    trained = statistics.mean(short["trained"])
    found = [
        Goal.at_least(
            f"{bound:g} x faster than {name}, cells of {trained:.1f} s", short["ratios"][name]["median"], bound
        )
        for name, bound in ((LOOP, LOOP_GOAL), (TUNE, TUNE_GOAL))
    ]
    if long is not None:
        text = f"at most {IDEAL_GOAL} x the ideal with cells of {long['trained'] / long['cells']:.0f} s"
        found.append(Goal.at_most(text, long["seconds"] / long["ideal"], IDEAL_GOAL))
    return found


def run(count: int, sample: int, rounds: int, short: float, long: float, slots: int) -> Run:
    """Calibrate, compare the short cells, and run the long ones (none where `long` is 0)."""
    with tempfile.TemporaryDirectory(prefix="bench-matrix-") as name:
        folder = Path(name)
        folders = [folder / part for part in ("calibration", "short", "long")]
        for each in folders:
            each.mkdir()
        short_steps, long_steps = calibrated((short, long), folders[0])
        compared = compare(Cells(count, short_steps), sample, rounds, slots, folders[1])
        alone = None
        if long:
            alone = {"cells": count, **Bench(Cells(count, long_steps), folders[2], slots).ours(), "load": load()}
    return {
        "slots": slots,
        "short": compared,
        "long": alone,
        "goals": [asdict(goal) for goal in goals(compared, alone)],
    }


def markdown(result: Run) -> str:
    """The tables and the goals."""
    short, long = result["short"], result["long"]
    rows = [
        (name, " ".join(f"{value:.0f}" for value in short["seconds"].get(name, [])) or "-", Ratio(**found))
        for name, found in short["ratios"].items()
    ]
    trained = " ".join(f"{value:.2f}" for value in short["trained"])
    lines = [
        f"{short['cells']} cells in {result['slots']} slots, {short['rounds']} rounds, load {short['load']}. Short "
        f"cells (they trained {trained} s in the rounds): `altformer ablate` took "
        f"{' '.join(f'{value:.0f}' for value in short['seconds'][OURS])} s. The loops and (c) ran {short['sample']} of "
        f"the cells in each round, scaled to all {short['cells']}. Ours and the loops share {short['shared_cells']} "
        f"cells, with {'the same' if short['same_scores'] else '**other**'} scores. A ratio is the other's time over "
        "ours; for the ideal, ours over the ideal.",
        "",
        table(("way", "s in each round", "ratio (min .. max)"), rows),
        "",
    ]
    if long is not None:
        lines += [
            f"{long['cells']} cells of {long['trained'] / long['cells']:.1f} s, once: {long['seconds']:.0f} s, the "
            f"ideal is {long['ideal']:.0f} s, the ratio {long['seconds'] / long['ideal']:.3f}; load {long['load']}.",
            "",
        ]
    return "\n".join([*lines, *(f"- {Goal(**goal)}" for goal in result["goals"])])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_matrix", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=24, help=f"a multiple of {SEEDS}")
    parser.add_argument("--sample", type=int, default=6, help="of the cells, for the loops and (c)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a short cell trains")
    parser.add_argument("--long-seconds", type=float, default=20.0, help="that a long cell trains; 0: none of these")
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.cells < SEEDS or args.cells % SEEDS:
        parser.error(f"--cells must be a multiple of {SEEDS}, got {args.cells}")
    sample = min(args.sample, args.cells)
    result = run(args.cells, sample, args.rounds, args.seconds, args.long_seconds, args.slots)
    finish(markdown(result), result, args.out)


if __name__ == "__main__":
    main()
