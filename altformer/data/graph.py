"""The road graph: DCRNN's `adj_mx.pkl`, read without running what it may contain, or a `from,to,cost` CSV.

n: sensors
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from altformer.data.safe_pickle import read_pickled_graph
from altformer.data.traffic import Readings, read_only
from altformer.errors import UserError, unknown_name


def read_graph(path: Path, sensor_ids: tuple[str, ...]) -> Readings:
    """Closeness of sensors (n, n), read-only float32, row i from sensor i; rows and columns as in `sensor_ids`.

    Raises UserError when the file is broken, holds anything but arrays and names, or does not fit the sensors.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise unknown_name("graph file extension", suffix, _READERS, where=str(path))
    if not path.is_file():
        raise UserError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    return read_only(_READERS[suffix](path, sensor_ids))


def graph_sensor_ids(path: Path) -> tuple[str, ...]:
    """Sensor ids (n,) in the graph's own order; empty where it names none. UserError where it cannot be read."""
    return read_pickled_graph(path)[0] if path.suffix.lower() == ".pkl" else ()


def read_sensor_ids(path: Path) -> tuple[str, ...]:
    """Sensor ids in column order, from a text file with one id a line or separated by commas (PEMS03.txt).

    UserError where it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable list of sensor ids: {error}") from None
    return tuple(text.replace(",", " ").split())


def _read_pickle(path: Path, sensor_ids: tuple[str, ...]) -> Readings:
    ids, matrix = read_pickled_graph(path)
    n = len(sensor_ids)
    if matrix.shape != (n, n):
        raise UserError(f"{path}: the graph has shape {matrix.shape}, the readings have {n} sensors")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise UserError(f"{path}: the graph holds {matrix[row, column]} at ({row}, {column})")
    if ids and (len(ids) != n or len(set(ids)) != n):
        raise UserError(f"{path}: names {len(ids)} sensors, {len(set(ids))} of them different, for a graph of {n}")
    if not ids or ids == sensor_ids:
        return np.asarray(matrix, dtype=np.float32)
    place = {name: k for k, name in enumerate(ids)}
    absent = [name for name in sensor_ids if name not in place]
    if absent and sensor_ids == tuple(str(k) for k in range(n)):  # the readings only number their sensors
        return np.asarray(matrix, dtype=np.float32)
    if absent:
        raise UserError(f"{path}: sensor '{absent[0]}' of the readings is not in the graph ({len(absent)} are not)")
    order = [place[name] for name in sensor_ids]
    return np.asarray(matrix[np.ix_(order, order)], dtype=np.float32)


def _read_edges(path: Path, sensor_ids: tuple[str, ...]) -> Readings:
    """1 for every listed pair and on the diagonal, else 0: the connectivity that results on PEMS0x are reported with.

    Pairs are sensor ids. Costs are road lengths, whose scale differs between the files, and are not used.
    """
    try:
        edges = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV of edges: {error}") from None
    edges.columns = edges.columns.str.strip()
    if not {"from", "to"} <= set(edges.columns):
        raise UserError(f"{path}: expected the columns from,to,cost, found {','.join(edges.columns)}")
    n = len(sensor_ids)
    place = {name: k for k, name in enumerate(sensor_ids)}
    adjacency = np.eye(n, dtype=np.float32)
    for row, pair in enumerate(zip(edges["from"], edges["to"], strict=True), start=2):
        ends = [place.get(str(end).strip()) for end in pair]
        if None in ends:
            unknown = pair[ends.index(None)]
            raise UserError(
                f"{path}, line {row}: sensor '{unknown}' is not one of the {n} sensors of the readings"
                f" ({sensor_ids[0]} ... {sensor_ids[-1]})"
            )
        adjacency[ends[0], ends[1]] = 1.0
    return adjacency


_READERS: dict[str, Callable[[Path, tuple[str, ...]], Readings]] = {".pkl": _read_pickle, ".csv": _read_edges}
