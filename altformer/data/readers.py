"""Readers of the forms in which readings are passed around; each gives the file's own values, unchanged and unchecked.

n: sensors, T: rows
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from altformer.data.declared import check_npz, check_parquet, h5_dataset, refuse_too_large
from altformer.data.traffic import Times
from altformer.errors import UserError, unknown_name


class Table(NamedTuple):
    """What a file holds: values (T, n) of any float or integer type, times (T,) and sensor ids where it has them."""

    values: npt.NDArray[Any]
    times: Times | None
    sensor_ids: tuple[str, ...] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The sensor ids (n,), or where the file has none the numbers of the columns from 0."""
        return self.sensor_ids or tuple(str(column) for column in range(self.values.shape[1]))


def read_table(path: Path) -> Table:
    """Read a file by its extension; UserError names the file and what is wrong with it."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise unknown_name("file extension", suffix, READERS, where=str(path))
    if not path.is_file():
        raise UserError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        return READERS[suffix](path)
    except UserError:
        raise
    except Exception as error:  # a broken file can raise nearly anything in the libraries that read it
        raise UserError(
            f"{path}: not a readable {suffix} file (truncated, or of another format): {str(error).strip()}"
        ) from error


def read_h5(path: Path) -> Table:
    """A pandas DataFrame stored with `to_hdf(format="fixed")`: rows are times, columns are sensors.

    Read through h5py alone, since PyTables is not needed for this block layout: axis0 column names, axis1 row times,
    block<i>_items the columns of block<i>_values (T, columns of the block).

    A truncated file is refused; flipped bits in its structure can crash the HDF5 library, which we cannot prevent.
    """
    with h5py.File(path, "r") as file:
        return _read_frame(path, _only_frame(path, file))


def _only_frame(path: Path, file: Any) -> Any:
    own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    groups = [file[name] for name in own if isinstance(file[name], h5py.Group)]
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
    columns, rows = _text(path, h5_dataset(path, frame, "axis0")), h5_dataset(path, frame, "axis1")
    refuse_too_large(path, "the stored DataFrame", (len(rows), len(columns)))
    position = {name: k for k, name in enumerate(columns)}
    blocks = sorted(key for key in frame if key.startswith("block") and key.endswith("_values"))
    values: npt.NDArray[Any] = np.full((len(rows), len(columns)), np.nan)
    for key in blocks:
        block, names = (
            h5_dataset(path, frame, key),
            _text(path, h5_dataset(path, frame, key[: -len("values")] + "items")),
        )
        if block.dtype.kind not in "fiu":
            raise UserError(f"{path}: {key} is of type {block.dtype}, readings must be numbers")
        if strange := [name for name in names if name not in position]:
            raise UserError(f"{path}: {key} is of column '{strange[0]}', which the DataFrame does not have")
        transposed = bool(block.attrs.get("transposed", 0))
        expected = (len(rows), len(names)) if transposed else (len(names), len(rows))
        if block.shape != expected:
            raise UserError(f"{path}: {key} has shape {block.shape}, rows and columns of the DataFrame need {expected}")
        values[:, [position[name] for name in names]] = block[:] if transposed else block[:].T
    if not blocks or not columns:
        raise UserError(f"{path}: the stored DataFrame has no columns")
    return Table(values, _h5_times(path, rows), columns)


def _h5_times(path: Path, axis: Any) -> Times:
    kind = axis.attrs.get("kind", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if not kind.startswith("datetime64"):
        raise UserError(f"{path}: rows are indexed by {kind or axis.dtype}, expected times (a DatetimeIndex)")
    unit = kind.partition("[")[2].rstrip("]").partition(",")[0] or "ns"  # files of pandas before 2 name no unit: ns
    times: Times = axis[:].astype(np.int64).view(f"datetime64[{unit}]")
    return times


def _text(path: Path, dataset: Any) -> tuple[str, ...]:
    names: npt.NDArray[Any] = dataset[:]
    if names.ndim != 1 or not (names.dtype.kind in "SUiu" or all(isinstance(name, (bytes, str)) for name in names)):
        raise UserError(f"{path}: column names are neither text nor whole numbers; name the sensors by text")
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def read_npz(path: Path) -> Table:
    """An array `data` (or the only one) of shape (T, n) or (T, n, c), of which channel 0 is used; no sensor ids.

    The usual files have no times either; an array `times` (T,) of datetime64 is read where there is one.
    UserError for anything else.
    """
    with zipfile.ZipFile(path) as members:  # np.load alone takes other formats too
        check_npz(path, members)
    with np.load(path, allow_pickle=False) as archive:
        keys = [name for name in archive.files if name != "times"]
        key = "data" if "data" in keys else keys[0] if len(keys) == 1 else None
        if key is None:
            raise UserError(f"{path}: expected an array named 'data', found {', '.join(keys) or 'none'}")
        values = np.asarray(archive[key])
        times = archive["times"] if "times" in archive.files else None
    if values.dtype.kind not in "fiu":
        raise UserError(f"{path}: array '{key}' is of type {values.dtype}, readings must be numbers")
    if values.ndim == 3 and values.shape[2] > 0:
        values = values[:, :, 0]
    if values.ndim != 2:
        raise UserError(
            f"{path}: array '{key}' has shape {values.shape}, expected (rows, sensors) or (rows, sensors, channels)"
        )
    if times is not None and (times.dtype.kind != "M" or times.shape != values.shape[:1]):
        raise UserError(f"{path}: array 'times' is {times.dtype} {times.shape}, expected datetime64 ({len(values)},)")
    return Table(values, times, None)


def read_csv(path: Path) -> Table:
    """A wide CSV: a column of times (named time, date, timestamp..., or the first one) and one column per sensor.

    UserError for rows cut short, another separator, cells that are no number, and times that may be read two ways.
    """
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
    _refuse_other_separators(path, str(header.iat[0, 0]), header.shape[1])
    frame = pd.read_csv(path, low_memory=False)
    if header.shape[1] != frame.shape[1] or not isinstance(frame.index, pd.RangeIndex):
        raise UserError(f"{path}: rows have more fields than the {header.shape[1]} of the header")
    frame.columns = header.iloc[0].str.strip()  # as written, since pandas renames columns that occur twice
    _refuse_half_a_row(path, frame)
    return _wide_table(path, frame)


def _refuse_other_separators(path: Path, first: str, count: int) -> None:
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if count == 1 and separator in first:
            raise UserError(
                f"{path}: its fields are separated by {name}; write it with commas between fields and points in numbers"
            )


def _refuse_half_a_row(path: Path, frame: pd.DataFrame) -> None:
    """UserError where the file ends within a row, which pandas fills up with NaN."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1_000_000))
        last = file.read().rstrip(b"\r\n").rpartition(b"\n")[2]
    fields = last.count(b",") + 1
    if fields < frame.shape[1] and b'"' not in last:
        raise UserError(f"{path}: truncated: its last row ({len(frame) - 1}) has {fields} of {frame.shape[1]} fields")


def read_parquet(path: Path) -> Table:
    """A wide table: times as its index or as a column, and one column per sensor; UserError for anything else."""
    check_parquet(path)
    frame = pd.read_parquet(path, engine="pyarrow")
    if isinstance(frame.index, pd.DatetimeIndex):
        return Table(_numbers(path, frame), _wall_times(frame.index), tuple(map(str, frame.columns)))
    return _wide_table(path, frame)


def _wide_table(path: Path, frame: pd.DataFrame) -> Table:
    names = [str(name).strip() for name in frame.columns]
    if frame.empty:
        raise UserError(f"{path}: {len(frame)} rows and {len(names)} columns, nothing to read")
    place = next((k for k, name in enumerate(names) if name.lower() in _TIME_NAMES), 0)
    column = frame.iloc[:, place]
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise UserError(
            f"{path}: no time column: column '{names[place]}' holds numbers; expected times such as 2012-03-01 00:05 "
            f"in the first column or in one named {', '.join(_TIME_NAMES[:4])}"
        )
    others = [k for k in range(len(names)) if k != place]
    times = _parse_times(path, column)
    return Table(_numbers(path, frame.iloc[:, others]), times, tuple(names[k] for k in others))


def _numbers(path: Path, frame: pd.DataFrame) -> npt.NDArray[Any]:
    for column, kind in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind):
            cells = frame.iloc[:, column]
            bad = pd.to_numeric(cells, errors="coerce").isna() & cells.notna()
            row = int(np.argmax(bad.to_numpy())) if bad.any() else 0
            raise UserError(
                f"{path}: wrong dtype: column '{frame.columns[column]}' holds {cells.iloc[row]!r} in row {row}, "
                "readings must be numbers"
            )
    values: npt.NDArray[Any] = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _parse_times(path: Path, column: pd.Series[Any]) -> Times:
    try:
        parsed = pd.to_datetime(column, format="ISO8601", errors="coerce")
        if parsed.isna().any():
            parsed = _guess_times(path, column)
    except ValueError:
        raise UserError(f"{path}: column '{column.name}' mixes time zones; write all times in one, best UTC") from None
    bad = parsed.isna().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise UserError(f"{path}: column '{column.name}' holds {column.iloc[row]!r} in row {row}, expected a time")
    return _wall_times(pd.DatetimeIndex(parsed))


def _guess_times(path: Path, column: pd.Series[Any]) -> pd.Series[Any]:
    """Times in another form than ISO 8601; UserError where day and month could be meant either way round."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        read = [pd.to_datetime(column, errors="coerce", dayfirst=dayfirst) for dayfirst in (False, True)]
    whole = [parsed for parsed in read if not parsed.isna().any()]
    if len(whole) == 2 and not whole[0].equals(whole[1]):
        row = int(np.argmax((whole[0] != whole[1]).to_numpy()))
        either = " or ".join(f"{parsed.iloc[row]:%Y-%m-%d}" for parsed in whole)
        raise UserError(
            f"{path}: column '{column.name}' holds {column.iloc[row]!r} in row {row}, which may be {either}; "
            "write times as 2026-01-31 00:00"
        )
    return whole[0] if whole else read[0]


def _wall_times(index: pd.DatetimeIndex) -> Times:
    times: Times = index.tz_localize(None).to_numpy()
    return times


_TIME_NAMES = ("time", "timestamp", "date", "datetime", "", "index", "unnamed: 0")


READERS: dict[str, Callable[[Path], Table]] = {
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".npz": read_npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
