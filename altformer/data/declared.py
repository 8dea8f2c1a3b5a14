"""What a file declares to hold, looked at before any of it is read: a few bytes can declare more than any machine has.

n: sensors, T: rows
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from altformer.errors import UserError

_READING_BYTES = 8  # readings pass through float64
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def memory_bytes() -> int:
    """Memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def refuse_too_large(path: Path, what: str, shape: tuple[int, ...], item_bytes: int = _READING_BYTES) -> None:
    """UserError where an array of this shape would not fit into the memory of this machine."""
    size, there = math.prod(shape) * item_bytes, memory_bytes()
    if size > there:
        shown = " x ".join(map(str, shape)) or "one value"
        raise UserError(f"{path}: {what} declares {shown} values, {_gb(size)}; this machine has {_gb(there)}")


def check_npz(path: Path, archive: zipfile.ZipFile) -> None:
    """UserError where a member of an .npz unpacks to more than fits, or declares an array that it does not hold."""
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        refuse_too_large(path, f"array '{name}'", (member.file_size,), 1)
        with archive.open(member) as file:
            if not member.filename.endswith(".npy") or (version := np.lib.format.read_magic(file)) not in _NPY_HEADERS:
                raise UserError(f"{path}: '{name}' is no plain numpy array")
            shape, _, dtype = _NPY_HEADERS[version](file)
            held = member.file_size - file.tell()
        if dtype.hasobject:
            raise UserError(f"{path}: array '{name}' holds Python objects, which could run code; nothing was run")
        refuse_too_large(path, f"array '{name}'", shape, max(dtype.itemsize, _READING_BYTES))
        if math.prod(shape) * dtype.itemsize != held:
            raise UserError(f"{path}: array '{name}' declares the shape {shape}, but holds {held} bytes (truncated?)")


def h5_dataset(path: Path, group: Any, name: str) -> Any:
    """A data set of an HDF5 file; UserError where it is none, lies in another file, or declares more than fits."""
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise UserError(f"{path}: {name} is a link to another file, '{link.filename}'; nothing of that is read")
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{path}: the stored DataFrame has no {name}")
    if found.external or found.is_virtual:
        raise UserError(f"{path}: {name} keeps its values in another file; nothing of that is read")
    refuse_too_large(path, name, found.shape, max(found.dtype.itemsize, _READING_BYTES))
    return found


def check_parquet(path: Path) -> None:
    """UserError where a parquet file declares more rows and columns than fit."""
    from pyarrow.parquet import read_metadata

    found = read_metadata(path)
    refuse_too_large(path, "the table", (found.num_rows, found.num_columns))


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
