"""Readers of the forms in which readings are passed around; each gives the file's own values, unchanged and unchecked.

n: sensors, T: rows
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from altformer.data.traffic import Times
from altformer.errors import UserError, unknown_name


class Table(NamedTuple):
    """What a file holds: values (T, n) of any float or integer type, times (T,) and sensor ids where it has them."""

    values: npt.NDArray[Any]
    times: Times | None
    sensor_ids: tuple[str, ...] | None


def read_table(path: Path) -> Table:
    """Read a file by its extension; UserError names the file and what is wrong with it."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise unknown_name("file extension", suffix, READERS, where=str(path))
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return READERS[suffix](path)


def read_h5(path: Path) -> Table:
    """A pandas DataFrame stored with `to_hdf(format="fixed")`: rows are times, columns are sensors.

    Read through h5py alone, since PyTables is not needed for this block layout: axis0 column names, axis1 row times,
    block<i>_items the columns of block<i>_values (T, columns of the block).
    """
    try:
        with h5py.File(path, "r") as file:
            return _read_frame(path, _only_frame(path, file))
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file (truncated or another format): {error}") from None


def _only_frame(path: Path, file: Any) -> Any:
    groups = [group for group in file.values() if isinstance(group, h5py.Group)]
    if any("table" in group for group in groups):
        raise UserError(
            f"{path}: stored with pandas' format 'table', which is not read here; write it again with "
            'frame.to_hdf(path, key="df", format="fixed"), or as parquet or CSV'
        )
    frames = [group for group in groups if "block0_values" in group and "axis1" in group]
    if len(frames) != 1:
        raise UserError(
            f"{path}: expected one pandas DataFrame in the file, found {len(frames)} (groups: {', '.join(file)})"
        )
    return frames[0]


def _read_frame(path: Path, frame: Any) -> Table:
    columns = _text(frame["axis0"][:])
    position = {name: k for k, name in enumerate(columns)}
    blocks = sorted(key for key in frame if key.startswith("block") and key.endswith("_values"))
    values: npt.NDArray[Any] | None = None
    for key in blocks:
        block = frame[key]
        if block.dtype.kind not in "fiu":
            raise UserError(f"{path}: {key} is of type {block.dtype}, readings must be numbers")
        places = [position[name] for name in _text(frame[key.replace("_values", "_items")][:])]
        if values is None:
            values = np.empty((len(frame["axis1"]), len(columns)), dtype=np.float64)
        values[:, places] = block[:]
    if values is None:
        raise UserError(f"{path}: the stored DataFrame has no columns")
    return Table(values, _h5_times(path, frame["axis1"]), columns)


def _h5_times(path: Path, axis: Any) -> Times:
    kind = axis.attrs.get("kind", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if not kind.startswith("datetime64"):
        raise UserError(f"{path}: rows are indexed by {kind or axis.dtype}, expected times (a DatetimeIndex)")
    unit = kind.partition("[")[2].rstrip("]").partition(",")[0] or "ns"  # files of pandas before 2 name no unit: ns
    times: Times = axis[:].astype(np.int64).view(f"datetime64[{unit}]")
    return times


def _text(names: npt.NDArray[Any]) -> tuple[str, ...]:
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def read_npz(path: Path) -> Table:
    """An array `data` (or the only one) of shape (T, n) or (T, n, c), of which channel 0 is used; no times, no ids."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = list(archive.files)
            key = "data" if "data" in keys else keys[0] if len(keys) == 1 else None
            if key is None:
                raise UserError(f"{path}: expected an array named 'data', found {', '.join(keys) or 'none'}")
            values = archive[key]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not a readable .npz file (truncated or another format): {error}") from None
    if values.dtype.kind not in "fiu":
        raise UserError(f"{path}: array '{key}' is of type {values.dtype}, readings must be numbers")
    if values.ndim == 3 and values.shape[2] > 0:
        values = values[:, :, 0]
    if values.ndim != 2:
        raise UserError(
            f"{path}: array '{key}' has shape {values.shape}, expected (rows, sensors) or (rows, sensors, channels)"
        )
    return Table(values, None, None)


READERS: dict[str, Callable[[Path], Table]] = {
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".npz": read_npz,
}
