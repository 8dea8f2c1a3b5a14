"""The way from a configuration to checked readings.

n: sensors, T: rows
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from altformer.data.config import DatasetConfig
from altformer.data.graph import read_graph, read_sensor_ids
from altformer.data.identity import content_hash, record_hash, recorded_hash
from altformer.data.own_file import load_own_file
from altformer.data.readers import Table, read_table
from altformer.data.rules import Finding, refuse, shape_findings, time_findings, value_findings
from altformer.data.simulated import simulate
from altformer.data.specs import SIMULATED, SPECS, DatasetSpec
from altformer.data.traffic import TrafficData, settle_missing
from altformer.errors import UserError, unknown_name


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
    if config.path is not None:
        return load_own_file(config, config.path)
    if config.name == SIMULATED:
        return simulate(config.sensors, config.days, config.simulation_seed)
    name = config.name or ""
    if name not in SPECS:
        raise unknown_name("data set", name, [*SPECS, SIMULATED])
    folder = folder or data_dir()
    path = find_file(name, SPECS[name].files, folder)
    if path is None:
        files = ", ".join(SPECS[name].files)
        raise UserError(f"{name}: no file ({files}) in {folder} or {folder / name}.\n{ways_out(name, folder)}")
    return load_known_file(name, path, find_file(name, SPECS[name].graph_files, folder))


def ways_out(name: str, folder: Path) -> str:
    """What a user without the file of a data set can do."""
    return (
        "Three ways on:\n"
        f"  1. put the file yourself at {(folder / name / SPECS[name].files[0]).absolute()}\n"
        f"  2. set ALTFORMER_DATA to a folder that has {name}/{SPECS[name].files[0]}\n"
        "  3. use --dataset simulated, which needs no file"
    )


def load_known_file(name: str, path: Path, graph: Path | None, remember: bool = True) -> TrafficData:
    """The known data set `name` from the file `path`, found to be what it should be, or UserError."""
    spec = SPECS[name]
    table = with_listed_sensors(read_table(path), path, spec)
    refuse(known_findings(table, spec), f"{path} is not {name} as it is known")
    values, null_value = settle_missing(table.values, spec.null_value)
    found_hash = content_hash(values)
    refuse(hash_findings(spec, path, found_hash), f"{path} is not {name} as it is known")
    if remember and spec.content_hash is None:
        record_hash(path, found_hash)
    times = table.times
    if times is None:
        times = np.datetime64(spec.start) + np.arange(len(values)) * np.timedelta64(spec.step_minutes, "m")
    return TrafficData(
        name=name,
        values=values,
        times=times.astype("datetime64[m]"),
        step_minutes=spec.step_minutes,
        sensor_ids=table.names,
        null_value=null_value,
        split=spec.split,
        unit=spec.unit,
        adjacency=None if graph is None else read_graph(graph, table.names),
        user_file=False,
        content_hash=found_hash,
    )


def with_listed_sensors(table: Table, path: Path, spec: DatasetSpec) -> Table:
    """The table with the sensor ids listed in a file beside it, where its own form holds none (PEMS03.txt)."""
    listed = next((path.with_name(file) for file in spec.id_files if path.with_name(file).is_file()), None)
    if table.sensor_ids is not None or listed is None:
        return table
    ids = read_sensor_ids(listed)
    if len(ids) != table.values.shape[1]:
        raise UserError(f"{listed}: names {len(ids)} sensors, {path.name} has {table.values.shape[1]}")
    return table._replace(sensor_ids=ids)


def known_findings(table: Table, spec: DatasetSpec) -> list[Finding]:
    """Where readings and times differ from what is known of the data set."""
    found = shape_findings(table, spec.shape) + value_findings(table, nan_is_missing=False)
    if table.times is not None and len(table.times) > 0:
        found += time_findings(table.times, spec.step_minutes, spec.start, spec.absent_steps)
    return found


def hash_findings(spec: DatasetSpec, path: Path, found_hash: str) -> list[Finding]:
    """Whether the readings are those known, or those that the file held when it was first used."""
    if spec.content_hash is not None and found_hash != spec.content_hash:
        message = f"the readings differ from the known ones, or their sensors are in another order: {found_hash}"
        return [Finding("hash", f"{message}, expected {spec.content_hash}")]
    recorded = recorded_hash(path)
    if recorded is not None and found_hash != recorded:
        return [Finding("hash", f"the readings have changed since their first use: {found_hash}, recorded {recorded}")]
    return []
