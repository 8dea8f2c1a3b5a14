"""How far one driver goes, by simulation: ``make simulate NODES=125 GPUS=8 CELLS=10000``.

Our own code is real: plan, hashes, queue, early stopping, watch, guard, events, records, report, MLflow's journal and a
store that it is brought into. Simulated are the trials, in virtual time, and with them Ray and Ray Tune, whose own cost
benchmarks.tune_cost measures on real cells. A hundredth and a tenth of the matrix on as much less of the cluster are
run too: what grows faster than the cells shows there.

Writes scale.md and scale.json in experiments/results, and the same tables between the markers of docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from altformer.files import write_text
from benchmarks.scale.page import tables
from benchmarks.scale.servers import measure_servers
from benchmarks.scale.store import backlog, epochs_each_second, measure_backlog, measure_singly, read_journal
from benchmarks.scale.store_page import EPOCH_SECONDS
from benchmarks.scale.text import duration
from benchmarks.simulation_page import ENDS, SimulationPage
from experiments import provenance

PAGE = SimulationPage(
    "benchmarks.scale.simulation",
    "Scale, by simulation",
    Path("experiments/results/scale.md"),
    Path("docs/scale.md"),
)
TUNE = "scale_tune.json"
PARTS = (100, 10, 1)  # of the matrix and of the cluster that are run
LEAST_CELLS = 30
SEEDS, FEW_SEEDS = 10, 3  # the few where there are fewer than 100 cells
STORE_SECONDS = 40.0  # of measuring the store, each of three times
SERVER_SECONDS = 15.0  # of measuring a server, each of four times


def sizes_of(nodes: int, gpus: int, cells: int) -> list[tuple[int, int, int, int]]:
    """Nodes, GPUs of each, cells and seeds of the matrices that are run, the whole one last."""
    found = []
    for part in PARTS:
        some = cells // part
        if some >= LEAST_CELLS:
            found.append((max(1, round(nodes / part)), gpus, some, SEEDS if some >= 100 else FEW_SEEDS))
    return found


def run_size(folder: Path, nodes: int, gpus: int, cells: int, seeds: int, options: Sequence[str]) -> dict[str, Any]:
    """One matrix in a process of its own; what it measured."""
    print(f"{cells:,} cells on {nodes} nodes with {gpus} GPUs each", flush=True)
    size = ["--nodes", str(nodes), "--gpus", str(gpus), "--cells", str(cells), "--seeds", str(seeds)]
    command = [sys.executable, "-m", "benchmarks.scale.run", *size, "--folder", str(folder), *options]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    numbers: dict[str, Any] = json.loads((folder / "numbers.json").read_text())
    return numbers


def measure_store(folder: Path, epoch_seconds: float, seconds: float, server_seconds: float) -> dict[str, Any]:
    """What a real store makes of the journal that a matrix has left in a folder; and servers, unless that takes 0 s."""
    print("MLflow's store", flush=True)
    [journal] = folder.glob("mlflow-spool/*.jsonl")
    header, events = read_journal(journal)
    singly = measure_singly(folder, header, events, seconds)
    each: Mapping[str, Mapping[str, float]] = singly["full"]["each"]
    behind = [
        {"epoch_seconds": shorter, **asdict(backlog(events, each, epoch_seconds / shorter))}
        for shorter in EPOCH_SECONDS
    ]
    late = measure_backlog(folder, journal, seconds)
    servers = measure_servers(folder, header, events, server_seconds) if server_seconds > 0 else []
    rate = epochs_each_second(events, each)
    return {"singly": singly, "backlog": late, "behind": behind, "rate": rate, "servers": servers}


def page_of(result: Mapping[str, Any], block: str) -> str:
    """The page of results."""
    origin = (
        f"Written by `{result['command']}` at commit {result['commit']}, {result['date']}, on {result['hardware']}, "
        f"in {duration(result['seconds'])}. "
        "Trials, Ray and Ray Tune are simulated in virtual time; all else is the code that runs a matrix. "
        f"What the numbers mean: [{PAGE.document.name}](../../{PAGE.document.as_posix()})."
    )
    return f"# {PAGE.title}\n\n{origin}\n\n{PAGE.begins}\n\n{block}\n\n{ENDS}\n"


def origin() -> dict[str, str]:
    """Commit, time and machine of a measurement that has ended; the load is that of its last quarter of an hour."""
    state, machine = provenance.git_state(), provenance.hardware("cpu")
    return {
        "commit": f"{state['git_commit']}{' with changes' if state['git_dirty'] else ''}",
        "date": provenance.now(),
        "hardware": f"{machine['cpu']}, {machine['cores']} cores, load {os.getloadavg()[2]:.1f}",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all sizes, measure the store, write page, numbers and the document's tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.simulation", description=__doc__)
    parser.add_argument("--nodes", type=int, default=125)
    parser.add_argument("--gpus", type=int, default=8, help="of each node, one cell on each")
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--epoch-seconds", type=float, default=60.0, help="of the simulated epochs, on average")
    parser.add_argument("--node-hours", type=float, default=200.0, help="until a node is lost, on average")
    parser.add_argument("--store-seconds", type=float, default=STORE_SECONDS, help="of measuring MLflow, three times")
    parser.add_argument("--server-seconds", type=float, default=SERVER_SECONDS, help="of an MLflow server, four times")
    parser.add_argument("--out", type=Path, default=PAGE.page, help="the page; its numbers go beside it")
    parser.add_argument("--docs", type=Path, default=PAGE.document, help="its tables are replaced too")
    args = parser.parse_args(arguments)
    if min(args.nodes, args.gpus, args.epochs) < 1 or args.cells < LEAST_CELLS:
        parser.error(f"takes one node, GPU and epoch or more, and {LEAST_CELLS} cells or more")
    options = [f"--epochs={args.epochs}", f"--epoch-seconds={args.epoch_seconds}", f"--node-hours={args.node_hours}"]
    folder, began = Path(tempfile.mkdtemp(prefix="scale-")), time.perf_counter()
    try:
        sizes = []
        for number, size in enumerate(sizes_of(args.nodes, args.gpus, args.cells)):
            sizes.append(run_size(folder / str(number), *size, options))
        store = measure_store(folder / str(len(sizes) - 1), args.epoch_seconds, args.store_seconds, args.server_seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    command = f"make simulate NODES={args.nodes} GPUS={args.gpus} CELLS={args.cells}"
    seconds = time.perf_counter() - began
    result = {"command": command, **origin(), "seconds": seconds, "sizes": sizes, "store": store}
    tune = args.out.with_name(TUNE)
    block = "\n\n".join(tables(sizes, store, json.loads(tune.read_text()) if tune.is_file() else None))
    write_text(args.out, page_of(result, block))
    write_text(args.out.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    write_text(args.docs, PAGE.filled(args.docs.read_text(), block))
    print(f"wrote {args.out} and the tables of {args.docs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
