"""Records as training writes them, with known numbers, and matrices of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.arms import expand
from ablations.cells import CellResult
from ablations.matrix import Matrix, load_matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.reports.data import ReportData, build_report
from ablations.reports.facts import RunInfo
from ablations.reports.files import write_report, write_tables
from ablations.running import run_plan
from altformer.data.traffic import TrafficData
from altformer.files import write_json
from experiments.cell import Machine
from tests.cluster.nodes.driver import its_user
from tests.faults.local_cluster import LocalCluster

STEPS = {"3": 0.88, "6": 1.0, "12": 1.17, "all": 1.0}

MakeRecord = Callable[..., dict[str, Any]]
MakeReport = Callable[..., tuple[ReportData, list[CellResult]]]


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """``altformer ablate`` times no steps before it starts, which is of no interest to most tests."""
    monkeypatch.setattr("ablations.command.PROBE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def small_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A Ray of two CPUs that is there for all tests of a module."""
    with LocalCluster(tmp_path_factory.mktemp("cluster"), head_cpus=2) as cluster:
        yield cluster


@pytest.fixture
def ray_here(small_cluster: LocalCluster) -> Iterator[None]:
    """Commands in this process use a Ray that runs already, instead of starting one each."""
    with its_user({**small_cluster.environment, "RAY_ADDRESS": small_cluster.address}):
        yield


def scores(mae: float, windows: int) -> dict[str, Any]:
    by_step = {step: {"mae": mae * by, "rmse": mae * by * 2, "mape": mae * by * 2.7} for step, by in STEPS.items()}
    return {**by_step, "mae_unmasked": mae + 6.9, "windows": windows}


def _record(
    mae: float = 3.1, seed: int = 0, status: str = "done", epochs: int = 30, params: int = 1_300_000, **changes: Any
) -> dict[str, Any]:
    noise = np.random.default_rng(int(mae * 1e6) + seed).normal(0, 0.01, epochs)
    val = mae - 0.25 + 2.5 * np.exp(-np.arange(epochs) / 3) + noise
    curve = [
        {
            "epoch": epoch + 1,
            "train_loss": float(value + 0.1 - 0.005 * epoch),
            "val_mae": float(value),
            "val_mae_unmasked": float(value + 6.9),
            "lr": 1e-3 * (1 - epoch / epochs),
            "epoch_seconds": 5.0,
            "samples_per_second": 800.0,
        }
        for epoch, value in enumerate(val)
    ]
    record = {
        "schema": 1,
        "cell_hash": f"{abs(hash((mae, seed))):016x}"[:16],
        "status": status,
        "stopped_by": {"type": "asha", "grace_period": 2} if status == "stopped" else None,
        "epochs": epochs,
        "best_epoch": int(np.argmin(val)) + 1 if epochs else None,
        "val": scores(mae - 0.25, 143) if status != "failed" else None,
        "test": scores(mae, 286) if status == "done" else None,
        "curve": curve if status != "failed" else [],
        "params": params if status != "failed" else None,
        "train_seconds": 5.0 * epochs,
        "seed": seed,
        "dataset": "METR-LA",
        "data_hash": "d" * 64,
        "profile": "full",
        "machine": {"device": "cpu", "threads": 1, "workers": 1},
        "config": {},
        "provenance": {
            "git_commit": "c" * 40,
            "git_dirty": False,
            "command": "altformer ablate depth",
            "repeat": f"altformer train --cfg cells/{seed}/config.yaml --out repeat",
            "versions": {"python": "3.12.1", "torch": "2.13.0"},
            "hardware": {"cpu": "a processor", "cores": 2},
            "started": f"2026-01-0{seed + 1}T00:00:00+00:00",
            "ended": f"2026-01-0{seed + 1}T01:00:00+00:00",
        },
        "error": "Traceback (most recent call last):\n  ...\nRuntimeError: no memory" if status == "failed" else None,
    }
    return {**record, **changes}


@pytest.fixture
def make_record() -> MakeRecord:
    """A record with a test MAE over all steps; the other errors follow from it by ``STEPS``."""
    return _record


@pytest.fixture
def make_report(make_record: MakeRecord) -> MakeReport:
    """A report on arms: name -> by seed a test MAE, a record, or None for a cell not run; the first is the baseline."""

    def make(
        arms: Mapping[str, Sequence[float | Mapping[str, Any] | None]],
        matrix: Mapping[str, Any] | None = None,
        reused: Collection[int] = (),
        **info: Any,
    ) -> tuple[ReportData, list[CellResult]]:
        named = {name: {"dropout": 0.01 * place} for place, name in enumerate(arms)}
        values = {"name": "depth", "base": "METR-LA_alternating", "arms": named, "baseline": next(iter(arms))}
        read = Matrix.model_validate({**values, **(matrix or {})})
        results = []
        for place, (name, own) in enumerate(arms.items()):
            for seed, one in enumerate(own):
                record = make_record(one, seed, params=1_000_000 + 100_000 * place) if isinstance(one, float) else one
                results.append(
                    CellResult(name, seed, f"{place:08x}{seed:08x}", record, f"run-{place}-{seed}", seed in reused)
                )
        given = {"dataset": "METR-LA", "profile": "full", "command": "altformer ablate depth", "step_minutes": 5}
        return build_report(read, expand(read), results, RunInfo(**{**given, **info})), results

    return make


MATRIX = "name: {name}\nbase: simulated.yaml\narms:\n  low: {{lr: 0.001}}\n  high: {{lr: 0.003}}\nbaseline: low\n"

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(traffic: TrafficData, make_record: MakeRecord, tmp_path: Path) -> MakeFolder:
    """The folder of a matrix below ``tmp_path / "runs"``, run and reported on, though nothing was trained.

    Without ``plots`` unless they are asked for: they take a second.
    ``maes`` are the test MAEs by arm and seed (None: not run; a mapping: changes to the record of such a cell).
    """

    def make(
        name: str = "rates",
        text: str = "",
        plots: bool = False,
        **maes: Sequence[float | Mapping[str, Any] | None],
    ) -> Path:
        plan = make_plan_with_records(name, text, maes or {"low": [3.1, 3.2, 3.0], "high": [3.0, 3.15, 2.8]})
        report_with = write_report if plots else write_tables
        run_plan(plan, None, None, train=False, report_with=report_with)  # type: ignore[arg-type]
        return plan.folder

    def make_plan_with_records(name: str, text: str, maes: Mapping[str, Sequence[Any]]) -> Plan:
        file = tmp_path / f"{name}.yaml"
        file.write_text(text or MATRIX.format(name=name))
        arguments: dict[str, Any] = {"dataset": None, "profile": "quick", "settings": {}, "seeds": 3}
        plan = make_plan(load_matrix(file), traffic, Machine(), out=tmp_path / "runs", **arguments)
        for at in plan.cells:
            given = maes[at.arm][at.seed] if at.seed < len(maes[at.arm]) else None
            if given is None:
                continue
            changes = {"config": at.cell.config.model_dump(mode="json"), "cell_hash": at.cell.hash, "profile": "quick"}
            changes |= dict(given) if isinstance(given, Mapping) else {"mae": given}
            write_json(at.cell.folder / "record.json", make_record(seed=at.seed, **changes))
        return plan.refreshed()

    make.plan = make_plan_with_records  # type: ignore[attr-defined]
    return make
