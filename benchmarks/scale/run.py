"""One matrix of a scale simulation, in a process of its own so that its memory is its own.

    python -m benchmarks.scale.run --nodes 125 --gpus 8 --cells 10000 --folder FOLDER

Plans, runs (on `SimulatedCluster`), records and reports through the functions of `altformer ablate`, then asks for the
status and starts once more, as a user would. Leaves the matrix and the journal of what MLflow is to get in FOLDER, and
the numbers in FOLDER/numbers.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from rich.console import Console

from ablations.estimate import estimate
from ablations.events import FILE
from ablations.groups import make_group
from ablations.matrix import Matrix, make_matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.reports.data import ReportData
from ablations.reports.files import write_report
from ablations.running import run_plan
from ablations.status import status_of
from altformer.data.simulated import simulate
from benchmarks.scale.cluster import OF_TRIALS, SimulatedCluster
from benchmarks.scale.costs import Stages, peak_megabytes
from benchmarks.scale.nodes import Clock
from benchmarks.scale.views import Nowhere, Watcher, plot_seconds
from cluster.metrics import Metrics
from cluster.progress import Lines
from cluster.tally import Tally
from cluster.tracking.location import resolve
from cluster.tracking.no_tracker import MatrixRun, NoTracker
from cluster.tracking.tracker import Tracker
from cluster.work import Listener, Outcome, Work
from experiments.cell import Machine
from experiments.tracked_cell import Artifact, cell_files, final_metrics

SEEDS = 10
EPOCHS, EPOCH_SECONDS, NODE_HOURS = 30, 60.0, 200.0
METRIC, CLOSE_SECONDS = "val_mae", 60.0
NOT_THE_DRIVER = (OF_TRIALS, "Watcher", "_Closing")  # parts of the costs: of trials, and of the simulation itself


class _NoWriter:
    """Leaves the journal to be brought over later."""

    problem, refused, store = None, 0, None

    def __init__(self, journal: Any, location: Any) -> None:
        self._journal = journal

    def wake(self) -> None: ...

    def drain(self, timeout: float) -> bool:
        return False

    def stop(self, timeout: float) -> None:
        self._journal.close()


class _Closing(Listener):
    """Closes the tracker while time is virtual still, when it has listed all files."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def matrix_ended(self, outcome: Outcome) -> None:
        self._tracker.close(CLOSE_SECONDS)


class Run:
    """The matrix of one size; `numbers` is what was measured."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.stages, self.numbers = args, Stages(), dict[str, Any]()
        self.folder: Path = args.folder
        self.cluster = SimulatedCluster(
            args.nodes, args.gpus, args.epoch_seconds, args.node_hours, self.folder, self._listeners
        )
        self.lines = Nowhere()
        self.watcher: Watcher

    def all(self) -> dict[str, Any]:
        """Everything that a user's command does, and what it did."""
        data = simulate(8, 8, 0)
        machine = Machine("cuda", 1, 1)

        def planned() -> Plan:
            return make_plan(
                matrix_of(self.args),
                data,
                machine,
                dataset=None,
                profile="full",
                settings={},
                seeds=self.args.seeds,
                out=self.folder,
            )

        self.stages.ended("imports")
        plan = planned()
        self.stages.ended("plan")
        estimate(make_group("scale", [plan], self.folder), self.cluster.slots, 1.0)
        self.stages.ended("estimate")
        self._run(plan)
        status_of(plan.folder)
        self.stages.ended("altformer status")
        again = planned()
        self.stages.ended("plan of a second start")
        self.numbers |= {
            **{name: getattr(self.args, name) for name in ("nodes", "gpus", "epochs", "epoch_seconds", "node_hours")},
            "arms": len(plan.arms),
            "seeds": self.args.seeds,
            "stages": self.stages.found,
            "peak_MB": peak_megabytes(),
            "events_bytes": (plan.folder / FILE).stat().st_size,
            "records_bytes": sum(path.stat().st_size for path in self.folder.glob("cells/*/record.json")),
            "to_run_again": len(again.to_run),
            "plot_seconds": plot_seconds(self.folder),
        }
        return self.numbers

    def _run(self, plan: Plan) -> None:
        def run_cells(*arguments: Any, **options: Any) -> Outcome:
            self.stages.ended("works, tracking")
            outcome = self.cluster.run_cells(*arguments, **options)
            self.stages.ended("run")
            return outcome

        def timed_report(report: ReportData, folder: Path) -> Path:
            self.stages.ended("records read, statistics")
            return write_report(report, folder)

        connection: Any = SimpleNamespace(dashboard_url=None, lost=False, kept=True)
        with patch("ablations.trials.run_cells", run_cells):
            finished = run_plan(plan, lambda: connection, None, report_with=timed_report)
        self.stages.ended("report written")
        assert finished.outcome is not None
        self._note(finished.outcome)

    def _listeners(self, listeners: Sequence[Listener], clock: Clock) -> list[Listener]:
        """Those of a run, but with lines of progress and MLflow's journal in virtual time, and gauges for nobody."""
        kept = [one for one in listeners if not isinstance(one, NoTracker | Tally)]
        gauges = Metrics("scale", METRIC, tell=lambda samples: None)
        self.watcher = Watcher(METRIC, clock.monotonic, gauges)
        lines = Lines(Console(file=self.lines, width=120), METRIC, clock=clock.monotonic)
        with patch("cluster.tracking.tracker.Writer", _NoWriter):
            location = resolve(self.folder, f"sqlite:///{self.folder.absolute() / 'mlflow.db'}")
            matrix = MatrixRun("scale", "scale")
            tracker = Tracker(location, matrix, final_metrics=final_metrics, cell_artifacts=_files)
        return [*kept, tracker, gauges, lines, self.watcher, _Closing(tracker)]

    def _note(self, outcome: Outcome) -> None:
        cluster = self.cluster
        parts = {name: seconds for name, seconds in cluster.costs.seconds.items() if name not in NOT_THE_DRIVER}
        self.numbers |= {
            "cells": len(outcome.ended),
            "slots": cluster.slots,
            "statuses": dict(Counter(ended.status for ended in outcome.ended.values())),
            "retries": sum(ended.retries for ended in outcome.ended.values()),
            "makespan": outcome.seconds,
            "ideal": cluster.usage.taken / cluster.slots,
            "usage": vars(cluster.usage),
            "epochs_reported": cluster.epochs,
            "steps": cluster.steps,
            "parts": parts,
            "record_seconds": cluster.costs.seconds[OF_TRIALS],
            "eta": [(share, said, outcome.seconds - passed) for share, passed, said in self.watcher.said],
            "views": self.watcher.views,
            "lines_bytes": self.lines.letters,
            "payload_bytes": cluster.payload_bytes,
            "journal_bytes": sum(path.stat().st_size for path in self.folder.glob("mlflow-spool/*.jsonl")),
        }


def _files(work: Work, status: str, record: Mapping[str, Any] | None) -> list[Artifact]:
    """What of a cell goes to MLflow: of a simulated one the record alone is there."""
    return cell_files(work.payload["cell"], record or {})


def matrix_of(args: argparse.Namespace) -> Matrix:
    """As many arms as there are cells for each seed, told apart by their learning rate; the first is the baseline."""
    arms = {f"lr-{number:05d}": {"lr": 1e-6 * (number + 1)} for number in range(args.cells // args.seeds)}
    settings = {"epochs": args.epochs, "sensors": 8, "days": 8}
    first = next(iter(arms))
    values = {"name": "scale", "base": "simulated.yaml", "arms": arms, "baseline": first, "settings": settings}
    return make_matrix(values)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.run", description=__doc__)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--cells", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--epoch-seconds", type=float, default=EPOCH_SECONDS)
    parser.add_argument("--node-hours", type=float, default=NODE_HOURS, help="until a node is lost")
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "numbers.json").write_text(json.dumps(Run(args).all(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
