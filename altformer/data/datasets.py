"""The known data sets, one entry each, and the way from a configuration to checked readings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from altformer.data.config import DatasetConfig
from altformer.data.readers import Table, read_table
from altformer.data.traffic import TrafficData, content_hash, read_only
from altformer.errors import UserError, unknown_name

__all__ = ["SPECS", "DatasetSpec", "TrafficData", "data_dir", "find_file", "load"]


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before its file is read.

    shape is (rows, sensors); absent_steps are the steps its time axis jumps over; files and graph_files are the names
    under which it is found, in `<data dir>/<name>/` or `<data dir>/`; sources are public addresses, tried in order.
    """

    shape: tuple[int, int]
    start: str
    split: tuple[float, float, float]
    unit: str
    files: tuple[str, ...]
    graph_files: tuple[str, ...]
    sources: tuple[str, ...] = ()
    graph_sources: tuple[str, ...] = ()
    step_minutes: int = 5
    null_value: float = 0.0
    absent_steps: int = 0
    content_hash: str | None = None


_SPEED_SPLIT = (0.7, 0.1, 0.2)
_FLOW_SPLIT = (0.6, 0.2, 0.2)


def _pems(number: str, shape: tuple[int, int], start: str, known_hash: str | None = None) -> DatasetSpec:
    return DatasetSpec(
        shape=shape,
        start=start,
        split=_FLOW_SPLIT,
        unit="vehicles per 5 minutes",
        files=(f"PEMS{number}.npz", f"pems{number}.npz"),
        graph_files=(f"PEMS{number}.csv", f"pems{number}.csv"),
        content_hash=known_hash,
    )


SPECS: dict[str, DatasetSpec] = {
    "METR-LA": DatasetSpec(
        shape=(34272, 207),
        start="2012-03-01T00:00",
        split=_SPEED_SPLIT,
        unit="mph",
        files=("metr-la.h5", "metr_la.h5", "METR-LA.h5", "METR-LA.csv", "METR-LA.parquet"),
        graph_files=("adj_mx.pkl", "adj_METR-LA.pkl"),
    ),
    "PEMS-BAY": DatasetSpec(
        shape=(52116, 325),
        start="2017-01-01T00:00",
        split=_SPEED_SPLIT,
        unit="mph",
        files=("pems-bay.h5", "pems_bay.h5", "PEMS-BAY.h5", "PEMS-BAY.csv", "PEMS-BAY.parquet"),
        graph_files=("adj_mx_bay.pkl", "adj_PEMS-BAY.pkl"),
        absent_steps=12,
    ),
    "PEMS03": _pems("03", (26208, 358), "2018-09-01T00:00"),
    "PEMS04": _pems("04", (16992, 307), "2018-01-01T00:00"),
    "PEMS07": _pems("07", (28224, 883), "2017-05-01T00:00"),
    "PEMS08": _pems("08", (17856, 170), "2016-07-01T00:00"),
}


def data_dir() -> Path:
    """The folder of data sets: the environment variable ALTFORMER_DATA, else `data` in the working directory."""
    return Path(os.environ.get("ALTFORMER_DATA") or "data")


def find_file(name: str, names: tuple[str, ...], folder: Path) -> Path | None:
    """The first of the file names that lies in `<folder>/<name>/` or `<folder>/`, or None."""
    candidates = (base / file for base in (folder / name, folder) for file in names)
    return next((path for path in candidates if path.is_file()), None)


def load(config: DatasetConfig, folder: Path | None = None) -> TrafficData:
    """Read and check the readings of a configuration; `folder` is the data directory (default: `data_dir()`).

    Raises UserError when the file is absent, broken or not what the data set is known to be.
    """
    folder = folder or data_dir()
    assert config.name is not None
    if config.name not in SPECS:
        raise unknown_name("data set", config.name, SPECS)
    spec = SPECS[config.name]
    path = find_file(config.name, spec.files, folder)
    if path is None:
        raise UserError(f"{config.name}: no file in {folder}")
    return _named(config.name, spec, read_table(path))


def _named(name: str, spec: DatasetSpec, table: Table) -> TrafficData:
    values = read_only(table.values)
    step = np.timedelta64(spec.step_minutes, "m")
    times = np.datetime64(spec.start, "m") + np.arange(len(values)) * step
    return TrafficData(
        name=name,
        values=values,
        times=times,
        step_minutes=spec.step_minutes,
        sensor_ids=table.sensor_ids or tuple(str(k) for k in range(values.shape[1])),
        null_value=spec.null_value,
        split=spec.split,
        unit=spec.unit,
        adjacency=None,
        user_file=False,
        content_hash=content_hash(values),
    )
