"""Everything that is wrong with a data set, listed with its place instead of raised at the first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from altformer.data.config import DatasetConfig
from altformer.data.datasets import (
    data_dir,
    find_file,
    hash_findings,
    known_findings,
    load,
    ways_out,
    with_listed_sensors,
)
from altformer.data.graph import read_graph
from altformer.data.identity import content_hash
from altformer.data.own_file import null_value_of, own_findings
from altformer.data.readers import Table, read_table
from altformer.data.rules import Finding
from altformer.data.specs import SIMULATED, SPECS
from altformer.data.traffic import settle_missing
from altformer.errors import UserError, unknown_name


@dataclass(frozen=True)
class Checked:
    """What a check saw: the file (None: nothing on disk), its shape where it could be read, and what is wrong."""

    path: Path | None
    shape: tuple[int, int] | None
    missing_share: float | None  # of all readings, 0..1
    silent_sensors: tuple[str, ...]  # without a single reading
    findings: tuple[Finding, ...]


def check(config: DatasetConfig, folder: Path | None = None) -> Checked:
    """Check the file of a data set, or the user's own; raises UserError only when there is no file to check."""
    if config.name == SIMULATED:
        data = load(config)
        return Checked(None, data.values.shape, data.missing_share, (), ())
    path, graph = _files(config, folder or data_dir())
    try:
        table = read_table(path)
        if config.name is not None:
            table = with_listed_sensors(table, path, SPECS[config.name])
        found = _content_findings(config, path, table)
    except UserError as error:
        return Checked(path, None, None, (), (Finding("file", str(error).removeprefix(f"{path}: ")),))
    missing: npt.NDArray[np.bool_] = _missing(config, table)
    return Checked(
        path=path,
        shape=table.values.shape,
        missing_share=float(missing.mean()) if missing.size else None,
        silent_sensors=tuple(table.names[column] for column in np.flatnonzero(missing.all(axis=0))),
        findings=tuple(found + _graph_findings(graph, table.names)),
    )


def _files(config: DatasetConfig, folder: Path) -> tuple[Path, Path | None]:
    if config.path is not None:
        return config.path, config.graph
    name = config.name or ""
    if name not in SPECS:
        raise unknown_name("data set", name, [*SPECS, SIMULATED])
    path = find_file(name, SPECS[name].files, folder)
    if path is None:
        raise UserError(f"{name}: no file in {folder} or {folder / name}.\n{ways_out(name, folder)}")
    return path, find_file(name, SPECS[name].graph_files, folder)


def _content_findings(config: DatasetConfig, path: Path, table: Table) -> list[Finding]:
    if config.path is not None:
        return own_findings(config, path, table)
    spec = SPECS[config.name or ""]
    found = known_findings(table, spec)
    if table.values.shape == spec.shape and not any(finding.rule == "nan" for finding in found):
        values, _ = settle_missing(table.values, spec.null_value)
        found += hash_findings(spec, path, content_hash(values))
    return found


def _graph_findings(graph: Path | None, sensor_ids: tuple[str, ...]) -> list[Finding]:
    try:
        if graph is not None:
            read_graph(graph, sensor_ids)
    except UserError as error:
        return [Finding("graph", str(error))]
    return []


def _missing(config: DatasetConfig, table: Table) -> npt.NDArray[np.bool_]:
    null_value = null_value_of(config)
    missing: npt.NDArray[np.bool_] = np.isnan(table.values) if math.isnan(null_value) else table.values == null_value
    return missing
