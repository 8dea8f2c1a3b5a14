"""A user's own file of readings, described by the configuration and by what it holds.

n: sensors, T: rows
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd

from altformer.data.config import DatasetConfig
from altformer.data.graph import read_graph
from altformer.data.identity import content_hash
from altformer.data.readers import Table, read_table
from altformer.data.rules import (
    Finding,
    infer_step,
    refuse,
    shape_findings,
    time_findings,
    value_findings,
    whole_minutes,
)
from altformer.data.traffic import TrafficData, settle_missing
from altformer.errors import UserError

DEFAULT_SPLIT = (7.0, 1.0, 2.0)


def load_own_file(config: DatasetConfig, path: Path) -> TrafficData:
    """Read and check the user's file; raises UserError for whatever does not fit."""
    table = read_table(path)
    refuse(own_findings(config, path, table), str(path))
    times, step = _time_axis(config, path, table)
    values, null_value = settle_missing(table.values, null_value_of(config))
    split = config.split or DEFAULT_SPLIT
    train, val, test = (part / sum(split) for part in split)
    return TrafficData(
        name=path.stem,
        values=values,
        times=times.astype("datetime64[m]"),
        step_minutes=step,
        sensor_ids=table.names,
        null_value=null_value,
        split=(train, val, test),
        unit="",
        adjacency=None if config.graph is None else read_graph(config.graph, table.names),
        user_file=True,
        content_hash=content_hash(values),
    )


def own_findings(config: DatasetConfig, path: Path, table: Table) -> list[Finding]:
    """What is wrong with the readings and times of the file; raises UserError when it has no usable time step."""
    found = shape_findings(table, None) + value_findings(table, math.isnan(null_value_of(config)))
    if len(table.values) < 2:
        return found
    times, step = _time_axis(config, path, table)
    return found + time_findings(times, step)


def null_value_of(config: DatasetConfig) -> float:
    """How the file marks a missing reading: 0, as the public data sets do, unless the configuration says otherwise."""
    return 0.0 if config.null_value is None else float(config.null_value)


def _time_axis(config: DatasetConfig, path: Path, table: Table) -> tuple[np.ndarray, int]:
    if table.times is None:
        raise UserError(
            f"{path}: has no times; write the readings as CSV or parquet with a time column, "
            "or add an array 'times' of datetime64 to the .npz"
        )
    if config.freq is None:
        return table.times, infer_step(table.times, str(path))
    return table.times, parse_freq(config.freq)


def parse_freq(freq: str) -> int:
    """Minutes of a time step written as 5min, 15min, 1h; raises UserError unless it divides the day."""
    written = re.fullmatch(r"(\d*) *([a-z]+)", freq.strip().lower())
    try:
        if written is None:
            raise ValueError(freq)
        count, unit = written.groups()
        step = pd.Timedelta(f"{count or 1}{'min' if unit == 't' else unit}")  # "5T": pandas before 3
    except ValueError:
        raise UserError(f"freq: '{freq}' is not a time step; write it as 5min, 15min or 1h") from None
    return whole_minutes(step.to_timedelta64(), "freq")
