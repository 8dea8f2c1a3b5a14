"""The models of finished runs beside the data they were trained on, ready to be scored as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from altformer.data.datasets import load
from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.ensemble import average
from altformer.errors import UserError
from altformer.evaluate import Forecaster, score
from altformer.loaded import load_model
from experiments import provenance
from experiments.fields import WINDOWS
from experiments.runs import Run
from experiments.scores_table import comparable


@dataclass(frozen=True)
class LoadedRuns:
    """Runs of one data set and the same windows; ``forecaster`` is the only one's, or the average of them all."""

    runs: tuple[Run, ...]
    data: TrafficData
    windows: Windows
    forecaster: Forecaster

    def scores(self, val_stride: int | None = None, test_stride: int | None = None) -> dict[str, Any]:
        """Validation and test scores, unless said otherwise over the windows that the runs themselves were scored on.

        Reads the test part once.
        """
        source = self.runs[0].config.dataset
        return {
            "val": score(self.forecaster, self.windows, "val", val_stride or source.val_stride),
            "test": score(self.forecaster, self.windows, "test", test_stride or source.test_stride),
        }


def load_runs(runs: Sequence[Run], device: str) -> LoadedRuns:
    """Load one run, or 3 to 5 to be averaged, and their data.

    UserError where they are of different data or windows, or the data are no longer those of the training.
    """
    check_comparable(runs)
    source = runs[0].config.dataset
    data = load(source)
    if data.identity != runs[0].record["data_hash"]:
        raise UserError(
            f"{runs[0].folder}: trained on data {runs[0].record['data_hash'][:16]}, "
            f"but {data.name} now holds {data.identity[:16]}"
        )
    windows = Windows.of(data, source.input_len, source.output_len, device)
    members = [load_model(run.folder, device).forecaster(data, windows) for run in runs]
    return LoadedRuns(tuple(runs), data, windows, members[0] if len(members) == 1 else average(members))


def check_comparable(runs: Sequence[Run]) -> None:
    """UserError naming the first run that is given twice, or is of other data or windows than the first."""
    first = runs[0]
    for k, run in enumerate(runs[1:], start=1):
        if run.hash in [other.hash for other in runs[:k]]:
            raise UserError(f"run {run.hash} is given twice (a name stands for its newest run; try --seeds)")
        if run.record["data_hash"] != first.record["data_hash"]:
            raise UserError(
                f"runs of different data: {first.hash} is of {first.record['dataset']} "
                f"({first.record['data_hash'][:16]}), {run.hash} of {run.record['dataset']} "
                f"({run.record['data_hash'][:16]})"
            )
        for name in WINDOWS:
            one, other = (each.record["config"]["dataset"][name] for each in (first, run))
            if one != other:
                raise UserError(f"runs of different windows: {first.hash} has {name} {one}, {run.hash} has {other}")


def result_facts(runs: Sequence[Run], device: str) -> dict[str, Any]:
    """What every result of finished runs says of where it comes from."""
    return {
        "schema": 1,
        "members": [
            {"cell_hash": run.hash, "seed": run.record["seed"], "val": run.record["val"], "test": run.record["test"]}
            for run in runs
        ],
        "dataset": runs[0].record["dataset"],
        "data_hash": runs[0].record["data_hash"],
        "comparable": all(comparable(run.record) for run in runs),
        "provenance": {
            **provenance.started_by(),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(device),
            "ended": provenance.now(),
        },
    }
