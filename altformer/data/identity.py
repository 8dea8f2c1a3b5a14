"""The identity of a data set: a hash of its readings, known beforehand or remembered at first use."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from altformer.data.traffic import Readings

_SUFFIX = ".content-hash"


def content_hash(values: Readings) -> str:
    """Identity of a data set: sha256 (hex) of the line `T n` and the float32 values, little-endian, in time order.

    Independent of file form, names and compression, so the same readings from h5, CSV or parquet agree. The time
    axis is checked apart (`rules.py`).
    """
    rows, sensors = values.shape
    digest = hashlib.sha256(f"{rows} {sensors}\n".encode())
    digest.update(np.ascontiguousarray(values, dtype="<f4").data)
    return digest.hexdigest()


def recorded_hash(path: Path) -> str | None:
    """The hash that an earlier use of the data file left in `<file>.content-hash`, or None."""
    try:
        return path.with_name(path.name + _SUFFIX).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def record_hash(path: Path, value: str) -> None:
    """Remember the hash next to the data file, where that folder may be written to; elsewhere nothing is remembered."""
    record = path.with_name(path.name + _SUFFIX)
    unfinished = record.with_name(f".{record.name}.{os.getpid()}")
    try:
        unfinished.write_text(value + "\n", encoding="ascii")
        unfinished.replace(record)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
