"""A cell as the cluster and MLflow see it: flat parameters, tags, metrics and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from altformer.scores import flatten
from cluster.work import TrialContext, Work
from experiments.cell import Cell, Record, run_cell
from experiments.cell_log import LOG
from experiments.fields import flat
from experiments.provenance import commit_tags

Artifact = tuple[Path, str]


def work_of(cell: Cell, name: str, tags: Mapping[str, str], started_by: Mapping[str, Any]) -> Work:
    """The cell as a piece of work; its payload is what ``train_cell`` needs."""
    source = cell.config.dataset
    return Work(
        key=cell.hash,
        name=name,
        payload={"cell": cell, "started_by": dict(started_by)},
        params=flat_params(cell),
        tags={
            "cell_hash": cell.hash,
            "seed": str(cell.config.seed),
            "dataset": source.name or str(source.path),
            "data_hash": cell.data_hash,
            "profile": cell.profile or "custom",
            **commit_tags(started_by),
            **tags,
        },
        epochs=cell.config.training.epochs,
    )


def flat_params(cell: Cell) -> dict[str, str | int | float | bool | None]:
    """Every field of the configuration by its dotted path, and the machine's part of the cell's identity."""
    fields = flat(cell.config.model_dump(mode="json"))
    texts = {path: str(value) if isinstance(value, list | tuple | dict) else value for path, value in fields.items()}
    machine = {"device": cell.machine.device, "threads": cell.machine.threads, "workers": cell.machine.workers}
    return {**texts, **machine}


def final_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """What is logged once at a cell's end: test scores by horizon, best epoch and its validation scores, cost."""
    metrics: dict[str, float] = {}
    if record.get("test"):
        metrics |= flatten("test", record["test"])
    if record.get("val"):
        metrics |= {f"best_{key}": value for key, value in flatten("val", record["val"]).items()}
    for key in ("best_epoch", "epochs", "train_seconds", "params"):
        if record.get(key) is not None:
            metrics[key] = record[key]
    return metrics


def cell_files(cell: Cell, record: Mapping[str, Any]) -> list[Artifact]:
    """The files of a finished cell that go with its run: what it was, what it found, a sample, and its best weights."""
    best = record.get("best_epoch")
    names = ("config.yaml", "record.json", "environment.txt", LOG, "forecast_sample.npz", "test_errors.npz")
    files = [(cell.folder / name, "") for name in names]
    if best:
        files.append((cell.folder / "checkpoints" / f"epoch-{best:04d}" / "model.safetensors", "best_checkpoint"))
    return [(path, place) for path, place in files if path.is_file()]


def train_cell(payload: dict[str, Any], shared: dict[str, Any], context: TrialContext) -> Record:
    """The train function of the cluster: run the cell on the data set it names (``shared`` maps data hash to data)."""
    cell: Cell = payload["cell"]
    return run_cell(cell, shared[cell.data_hash], context, payload["started_by"])
