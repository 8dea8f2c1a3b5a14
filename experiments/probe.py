"""A timed probe: a few steps of a cell's own training loop, in processes of their own, before anything is run.

Nothing of it is kept: checkpoints go to a folder that is removed, and the process that plans draws no random number.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from altformer.data.traffic import TrafficData
from altformer.training.context import BareContext
from experiments.cell import Cell, load_teacher
from experiments.pace import SCORED_SHARE, Pace, median_pace
from experiments.signals import sigterm_raises

STEPS = 4  # of which the first is not counted
SECONDS = 15.0  # for the steps of one cell; then those that are done must do
_VALIDATED = 64  # windows: a batch of scoring
_ERROR_LETTERS = 500

Found = dict[str, Pace | str]  # by the cell's hash: its pace, or why it has none


class _TimeIsUpError(Exception):
    """The steps have taken long enough."""


class _Stopwatch(BareContext):
    """Notes when each step has ended, and leaves after the first epoch or when time is up."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.began = time.perf_counter()
        self.ticks: list[float] = []
        self.metrics: Mapping[str, float] = {}
        self.reported = 0.0

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Note the time when the device has done the step."""
        self._wait()
        self.ticks.append(time.perf_counter())
        if self.ticks[-1] - self.began > SECONDS and len(self.ticks) > 1:
            raise _TimeIsUpError

    def report(self, metrics: Mapping[str, float]) -> None:
        """Note the end of the epoch, its checkpoint included."""
        self.metrics, self.reported = metrics, time.perf_counter()

    def should_stop(self) -> str | None:
        """After the first epoch."""
        return "interrupted"

    def _wait(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize()


def probe(cell: Cell, data: TrafficData) -> Pace:
    """Train the cell for a few steps and validate it once, in a folder that is removed; raises what training raises.

    With several workers this process computes the share of one of them, so that what they say to each other is not
    timed.
    """
    import torch

    from altformer.train import train

    workers, training = cell.machine.workers, cell.config.training
    share = math.ceil(training.batch_size / workers)
    few = training.model_copy(update={"epochs": 1, "steps_per_epoch": STEPS, "batch_size": share})
    fewer = cell.config.dataset.model_copy(update={"val_stride": _stride(cell, data)})
    config = cell.config.model_copy(update={"training": few, "dataset": fewer})
    torch.set_num_threads(cell.machine.threads)
    watch = _Stopwatch(cell.machine.device)
    with tempfile.TemporaryDirectory(prefix="altformer-probe-") as folder, contextlib.suppress(_TimeIsUpError):
        train(config, data, watch, Path(folder), load_teacher(cell, data, watch.device))
    windows = training.batch_size * training.gradient_accumulation_steps
    return pace_of(watch, windows, len(range(0, _val_windows(cell, data), fewer.val_stride)), workers)


def pace_of(watch: _Stopwatch, windows: int, validated: int, workers: int) -> Pace:
    """From the stopwatch: a step trains on ``windows``, the validation scores so many, shared by the workers."""
    steps = [after - before for before, after in zip(watch.ticks, watch.ticks[1:], strict=False)]
    first = watch.ticks[0] - watch.began if watch.ticks else 0.0
    step = statistics.median(steps) if steps else first
    once, trained = max(first - step, 0.0), step / windows
    if not watch.metrics:
        return Pace(once, trained, trained * SCORED_SHARE)
    training = len(watch.ticks) * windows / workers / watch.metrics["samples_per_second"]
    validation = max(watch.metrics["epoch_seconds"] - training, 0.0)
    saving = max(watch.reported - watch.ticks[-1] - validation, 0.0)
    return Pace(once, trained, validation / max(validated, 1) / workers, saving)


def _val_windows(cell: Cell, data: TrafficData) -> int:
    from altformer.data.windows import split_origins

    source = cell.config.dataset
    return len(split_origins(len(data.values), data.split, source.input_len, source.output_len)["val"])


def _stride(cell: Cell, data: TrafficData) -> int:
    """Of the validation windows of the probe."""
    return max(cell.config.dataset.val_stride, math.ceil(_val_windows(cell, data) / _VALIDATED))


def probe_here(cells: Sequence[Cell], data: TrafficData, processes: int, seconds: float) -> Found:
    """Probe cells on this machine, in so many processes at once as trials will run, within ``seconds``.

    Fewer cells than processes are probed several times, so that each is timed beside as many others as it will have.
    """
    if not cells or seconds <= 0:
        return {}
    jobs = [cells[place % len(cells)] for place in range(max(len(cells), processes))]
    gpus = _gpus() if cells[0].machine.device == "cuda" else [""]
    shares = [(gpus[place % len(gpus)], jobs[place::processes]) for place in range(processes)]
    main_thread = threading.current_thread() is threading.main_thread()  # no other can handle a signal
    leaving = sigterm_raises() if main_thread else contextlib.nullcontext()
    with leaving, tempfile.TemporaryDirectory(prefix="altformer-probe-") as folder:
        process = _start(cells[0].machine.threads, folder)
        try:
            said, _ = process.communicate(pickle.dumps((shares, data)), timeout=seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            said, _ = process.communicate()
        finally:
            _end(process)
            process.wait()
    return gathered(said)


def _start(threads: int, folder: str) -> subprocess.Popen[bytes]:
    """A process that probes what it is handed, writes below ``folder``, and finds modules where this one does."""
    given = {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TMPDIR": folder,
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", "from experiments.probe import main; main()"],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **given},
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those it has forked."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def gathered(said: bytes) -> Found:
    """The median pace of each cell, or why it has none, from the lines of all processes; half a line is dropped."""
    paces: dict[str, list[Pace]] = {}
    found: Found = {}
    for line in said.splitlines():
        try:
            one = json.loads(line)
            if one["pace"] is None:
                found[one["cell"]] = one["error"]
            else:
                paces.setdefault(one["cell"], []).append(Pace(**one["pace"]))
        except (ValueError, LookupError, TypeError):
            continue
    return found | {key: median_pace(several) for key, several in paces.items()}


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return chosen.split(",") if chosen else [str(number) for number in range(torch.cuda.device_count())] or [""]


def probe_or_error(cell: Cell, data: TrafficData) -> Pace | str:
    """The cell's pace, or the last line of what its training raised."""
    try:
        return probe(cell, data)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def main() -> None:
    """The process of ``probe_here``: forks one for each share, once what they all need is imported."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what a user's own model prints is no answer
    shares, data = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that has started this one
    import altformer.train  # noqa: F401 - once, for all

    children = []
    for gpu, cells in shares:
        if (child := os.fork()) == 0:
            try:
                _answer(cells, data, gpu, answers)
            finally:
                os._exit(0)  # whatever happened: the rest is the parent's
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _answer(cells: Sequence[Cell], data: TrafficData, gpu: str, answers: int) -> None:
    """Probe cells on a GPU, and write a line for each, at once, so that lines of several processes stay whole."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    for cell in cells:
        found = probe_or_error(cell, data)
        error, pace = (found[:_ERROR_LETTERS], None) if isinstance(found, str) else (None, asdict(found))
        os.write(answers, (json.dumps({"cell": cell.hash, "pace": pace, "error": error}) + "\n").encode())
