"""Small files in every form that is read."""

import dataclasses

import h5py
import numpy as np
import pandas as pd
import pytest

from altformer.data.specs import SPECS, DatasetSpec


@pytest.fixture
def frame():
    """Two hours of three sensors every 5 minutes, no reading missing."""
    times = pd.date_range("2024-03-01 00:00", periods=24, freq="5min")
    values = 50 + np.random.default_rng(0).integers(0, 160, (24, 3)) / 8
    return pd.DataFrame(values, index=times, columns=["400001", "400002", "400003"])


@pytest.fixture
def write_h5():
    """Writes a DataFrame as pandas' fixed format does (to_hdf itself needs PyTables, which is not installed)."""

    def write(path, frame, *, kind=b"datetime64[ns]", blocks=None, unit="ns", transposed=1):
        with h5py.File(path, "w") as file:
            group = file.create_group("df")
            group.attrs["pandas_type"] = b"frame"
            group["axis0"] = np.array([str(name).encode() for name in frame.columns])
            group["axis1"] = frame.index.to_numpy().astype(f"datetime64[{unit}]").astype(np.int64)
            group["axis1"].attrs["kind"] = kind
            for number, columns in enumerate(blocks or [list(frame.columns)]):
                group[f"block{number}_items"] = np.array([str(name).encode() for name in columns])
                block = frame[columns].to_numpy()
                group[f"block{number}_values"] = block if transposed else block.T
                group[f"block{number}_values"].attrs["transposed"] = np.uint8(transposed)
        return path

    return write


@pytest.fixture
def tiny(monkeypatch):
    """A known data set TINY of two hours and three sensors: its entry, and the readings that belong to it."""
    values = np.random.default_rng(1).integers(1, 70, (24, 3)).astype(np.float32)
    spec = DatasetSpec(
        shape=(24, 3),
        start="2024-03-01T00:00",
        split=(0.6, 0.2, 0.2),
        unit="mph",
        files=("tiny.npz", "tiny.csv", "tiny.h5", "tiny.parquet"),
        graph_files=("tiny_graph.csv", "tiny_graph.pkl"),
        id_files=("tiny.txt",),
    )

    def register(**changes):
        monkeypatch.setitem(SPECS, "TINY", dataclasses.replace(spec, **changes))
        return values

    register()
    return register
