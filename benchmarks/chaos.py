"""Ten minutes of random kills on a local cluster of three nodes: ``make chaos``, or ``python -m benchmarks.chaos``.

Two matrices run one after the other for half of the time each: cells of one process, then cells of two DDP workers.
Meanwhile processes of trials, ranks and whole nodes are killed at random (the nodes come back); then it is let be. The
results, times apart, must equal those of the same matrices on this machine with nothing killed, bit by bit.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ablations.reports.markdown_text import table
from altformer.files import write_text
from tests.faults.harness import Matrix, same_results
from tests.faults.local_cluster import LocalCluster, Node
from tests.faults.process import Process
from tests.faults.table import origin

CPUS = 2  # of a node
NODES = 3  # the head among them, which is never killed: the driver is there
EPOCHS, EPOCH_SECONDS = 10, 1.0  # of a cell
LOADED = 0.8  # of the slots' time, the cells would take undisturbed: killed, they outlast the kills
BETWEEN_KILLS = (4.0, 12.0)  # seconds
AWAY = (2.0, 15.0)  # seconds that a node stays lost before it is started again
NODE_SHARE = 0.25  # of kills
RANK, TRIAL, NODE = "DDP rank", "trial's process", "node (its raylet)"
TITLES = {RANK: "ray::RayTrainWorker", TRIAL: "ray::Trial"}
LIMIT = 1800.0  # seconds for a matrix to end after the last kill


@dataclass
class Chaos:
    """Kills on a cluster while a matrix runs; `kills` counts them by kind."""

    cluster: LocalCluster
    dice: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    _returning: list[threading.Thread] = field(default_factory=list)

    def go_on(self, process: Process, kinds: Sequence[str], seconds: float) -> None:
        """Kill for so long, or until the matrix has ended."""
        end = time.monotonic() + seconds
        while process.popen.poll() is None and time.monotonic() < end:
            time.sleep(self.dice.uniform(*BETWEEN_KILLS))
            if self.dice.random() < NODE_SHARE:
                self._kill_node()
            else:
                self._kill_process(kinds)
        for thread in self._returning:
            thread.join()

    def _kill_process(self, kinds: Sequence[str]) -> None:
        kind = self.dice.choice(kinds)
        everywhere = [self.cluster.head, *self.cluster.nodes]
        found = sorted(pid for node in everywhere for pid in node.pids_of(TITLES[kind]))
        if found:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(self.dice.choice(found), signal.SIGKILL)
                self._note(kind)

    def _kill_node(self) -> None:
        standing = [node for node in self.cluster.nodes if node.pids_of("raylet/raylet")]
        if standing:
            node = self.dice.choice(standing)
            self.cluster.nodes.remove(node)
            node.kill()
            self._note(NODE)
            thread = threading.Thread(target=self._bring_back, args=(node, self.dice.uniform(*AWAY)), daemon=True)
            thread.start()
            self._returning.append(thread)

    def _bring_back(self, node: Node, after: float) -> None:
        time.sleep(after)
        node.close()
        self.cluster.add(CPUS)

    def _note(self, kind: str) -> None:
        self.kills[kind] += 1
        print(f"{time.strftime('%H:%M:%S')} killed: {kind}", flush=True)


@dataclass(frozen=True)
class Part:
    """What became of one of the matrices."""

    title: str
    matrix: Matrix
    kills: Counter[str]
    seconds: float
    problem: str  # empty: everything is as undisturbed

    @property
    def row(self) -> list[str]:
        """Its line of the page's table."""
        attempts = [self.matrix.attempts(at["cell_hash"]) for at in self.matrix.plan]
        twice = sum(
            max(max([before.resumed_after, *before.epochs]) - after.resumed_after, 0)
            for own in attempts
            for before, after in pairwise(own)
        )
        retries = Counter(event["fault"] for event in self.matrix.events("cell_retried"))
        numbers = [len(attempts), sum(map(len, attempts)), *(self.kills[kind] for kind in (TRIAL, RANK, NODE))]
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(retries.items())) or "none"
        verdict = self.problem or "equal"
        return [self.title, *map(str, numbers), told, str(twice), f"{self.seconds / 60:.1f}", verdict]


def run_part(folder: Path, name: str, title: str, workers: int, minutes: float, seed: int) -> Part:
    """One matrix on a cluster of its own in which things die for so many minutes."""
    slots = NODES * CPUS // workers
    cells = max(4, round(LOADED * minutes * 60 * slots / (EPOCHS * EPOCH_SECONDS)))
    matrix = Matrix(
        folder / name,
        name=name,
        seeds=-(-cells // 2),
        epochs=EPOCHS,
        epoch_seconds=EPOCH_SECONDS,
        resources={"workers": workers},
        retries={"per_cell": 1000, "per_matrix": 100_000},
    )
    print(f"{title}: {2 * -(-cells // 2)} cells, {slots} at once", flush=True)
    began = time.monotonic()
    with LocalCluster(matrix.folder, head_cpus=CPUS) as cluster:
        for _ in range(NODES - 1):
            cluster.add(CPUS)
        chaos = Chaos(cluster, random.Random(seed))
        process = matrix.start("--address", cluster.address, env=cluster.environment)
        try:
            process.wait_for_event("cell_epoch", timeout=300)
            chaos.go_on(process, [TRIAL] if workers == 1 else [TRIAL, RANK], minutes * 60)
            code = process.wait(LIMIT)
        finally:
            process.close()
    problem = f"exit code {code}" if code else _difference(matrix, folder / f"{name}-undisturbed")
    if code:
        print(process.output[-5000:])
    return Part(title, matrix, chaos.kills, time.monotonic() - began, problem)


def _difference(matrix: Matrix, folder: Path) -> str:
    """What differs from the same matrix with nothing killed; empty where nothing does."""
    calm = matrix.calm(folder)
    process = calm.start()
    try:
        if process.wait(LIMIT) != 0:
            return "the undisturbed run failed"
    finally:
        process.close()
    try:
        same_results(matrix.records(), calm.records())
    except AssertionError as difference:
        return str(difference)
    return ""


def page(parts: Sequence[Part], minutes: float) -> str:
    """The page, with what each matrix went through and whether its results are those of an undisturbed run."""
    kills = sum((part.kills for part in parts), Counter[str]())
    held = all(not part.problem for part in parts)
    header = ["matrix", "cells", "trainings", "trials killed", "ranks killed", "nodes killed", "retries by kind"]
    header += ["epochs trained twice", "minutes", "results"]
    verdict = "equal those of the same cells undisturbed, bit by bit, times apart" if held else "DIFFER, see the table"
    return (
        "\n\n".join(
            [
                "# Chaos",
                origin(f"make chaos (python -m benchmarks.chaos --minutes {minutes:g})"),
                f"{kills.total()} kills in {minutes:g} minutes on a local cluster of {NODES} nodes with {CPUS} CPUs "
                "each (the head, with the driver, is never killed; nodes come back), scheduler none, cells of "
                f"{EPOCHS} epochs of {EPOCH_SECONDS:g} s on simulated data. The results **{verdict}**.",
                table(header, [part.row for part in parts], numbers=range(1, 9)),
                "A training is an attempt at a cell that got as far as that; every one after the first resumed from "
                "the cell's last checkpoint. Retries are what the driver noticed: a process that died, a node that was "
                "lost, also before the cell had begun to train. A kill that met an idle process, or a cell already "
                "lost with its node, makes none.",
            ]
        )
        + "\n"
    )


def main() -> int:
    """Run both matrices and write the page; exit code 1 when a result differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of kills, in all (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="of the kills' moments and victims (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/chaos.md"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    each = args.minutes / 2
    parts = [
        run_part(folder, "chaos", "cells of one process", 1, each, args.seed),
        run_part(folder, "chaos-ddp", "cells of two DDP workers", 2, each, args.seed + 1),
    ]
    write_text(args.out, page(parts, args.minutes))
    print(f"wrote {args.out}")
    held = all(not part.problem for part in parts)
    if held:
        shutil.rmtree(folder)
    else:
        print(f"what differs is in {folder}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
