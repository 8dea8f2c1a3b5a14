"""Files of readings and road graphs that must be refused: name, how it is made, and what the message must say."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

CANARY = "it ran"  # a file that every hostile input tries to make
IDS = ["a", "b", "c", "d"]
TIMES = pd.date_range("2024-03-01", periods=400, freq="30min")
VALUES = 50 + np.random.default_rng(0).normal(0, 3, (len(TIMES), len(IDS))).round(2)
FRAME = pd.DataFrame(VALUES, index=TIMES, columns=IDS)
GRAPH = np.array([[1, 0.5, 0, 0], [0.25, 1, 0, 0], [0, 0.75, 1, 0], [0, 0, 0, 1]], dtype=np.float32)

Make = Callable[[Path], Any]


class Hostile:
    """Pickled, it makes the canary where it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(CANARY),)


def csv(path: Path, frame: pd.DataFrame = FRAME, **options: Any) -> None:
    frame.to_csv(path, index_label="time", **options)


def h5(path: Path, frame: pd.DataFrame = FRAME, change: Callable[[Any], Any] | None = None) -> None:
    """As pandas' fixed format has it."""
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group["axis0"] = group["block0_items"] = np.array([name.encode() for name in frame.columns])
        group["axis1"] = frame.index.to_numpy().astype("datetime64[ns]").astype(np.int64)
        group["axis1"].attrs["kind"] = b"datetime64[ns]"
        group["block0_values"] = frame.to_numpy()
        group["block0_values"].attrs["transposed"] = np.uint8(1)
        if change:
            change(group)


def npz(path: Path, data: Any = VALUES, times: Any = None) -> None:
    np.savez(path, data=data, times=TIMES.to_numpy() if times is None else times)


def parquet(path: Path, frame: pd.DataFrame = FRAME) -> None:
    frame.to_parquet(path)


def half(make: Make) -> Make:
    """What is left when a copy was cut short."""

    def cut(path: Path) -> None:
        make(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2 - 5])

    return cut


def with_cell(value: Any) -> pd.DataFrame:
    """The readings with another one at row 7 of sensor c."""
    frame = FRAME.astype(object if isinstance(value, str) else float)
    frame.iloc[7, 2] = value
    return frame


def hostile(path: Path) -> None:
    path.write_bytes(pickle.dumps(Hostile()))


def bomb(path: Path) -> None:
    """An array of a million million readings in a few bytes."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**3)})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.npy", head.getvalue())


def absurd(group: Any) -> None:
    del group["block0_values"]
    group.create_dataset("block0_values", shape=(10**12, 10**12), dtype="f8", chunks=(1000, 1000))


def elsewhere(group: Any) -> None:
    del group["block0_values"]
    group["block0_values"] = h5py.ExternalLink("/etc/passwd", "/df")


def fewer_times(group: Any) -> None:
    times = group["axis1"][:9]
    del group["axis1"]
    group["axis1"] = times
    group["axis1"].attrs["kind"] = b"datetime64[ns]"


READINGS: dict[str, tuple[str, Make, list[str]]] = {
    "h5 cut short": ("x.h5", half(h5), ["x.h5: not a readable .h5 file (truncated"]),
    "npz cut short": ("x.npz", half(npz), ["x.npz: not a readable .npz file (truncated"]),
    "csv cut short": ("x.csv", half(csv), ["x.csv: truncated: its last row (200) has 1 of 5 fields"]),
    "parquet cut short": ("x.parquet", half(parquet), ["x.parquet: not a readable .parquet file (truncated"]),
    "an empty file": ("x.csv", Path.touch, ["x.csv: not a readable .csv file"]),
    "no file": ("x.csv", lambda path: None, ["x.csv: no such file"]),
    "a folder": ("x.csv", Path.mkdir, ["x.csv: a folder, not a file"]),
    "not UTF-8": ("x.csv", lambda path: path.write_bytes(b"time,caf\xe9\n"), ["x.csv: not a readable .csv file"]),
    "one dimension": ("x.npz", lambda path: npz(path, VALUES[:, 0]), ["x.npz: array 'data' has shape (400,)"]),
    "four dimensions": ("x.npz", lambda path: npz(path, np.zeros((400, 2, 2, 2))), ["has shape (400, 2, 2, 2)"]),
    "fewer times than rows": ("x.npz", lambda path: npz(path, times=TIMES[:9].to_numpy()), ["'times' is", "(9,)"]),
    "values of fewer rows": (
        "x.h5",
        lambda path: h5(path, change=fewer_times),
        ["x.h5: block0_values has shape (400, 4), rows and columns of the DataFrame need (9, 4)"],
    ),
    "one row": ("x.csv", lambda path: csv(path, FRAME[:1]), ["x.csv: shape: 1 rows x 4 sensors"]),
    "no sensor": ("x.csv", lambda path: csv(path, FRAME.iloc[:, :0]), ["x.csv: shape: 400 rows x 0 sensors"]),
    "NaN": ("x.csv", lambda path: csv(path, with_cell(np.nan)), ["nan: 1 readings", "row 7, sensor c", "03:30"]),
    "NaN in h5": ("x.h5", lambda path: h5(path, with_cell(np.nan)), ["nan: 1 readings", "null_value: nan"]),
    "infinite": ("x.csv", lambda path: csv(path, with_cell(np.inf)), ["inf: 1 readings", "row 7, sensor c"]),
    "infinite in npz": ("x.npz", lambda path: npz(path, with_cell(-np.inf).to_numpy()), ["row 7, sensor 2"]),
    "beyond float32": ("x.parquet", lambda path: parquet(path, with_cell(1e300)), ["beyond float32", "row 7"]),
    "text": (
        "x.csv",
        lambda path: csv(path, with_cell("fast")),
        ["x.csv: wrong dtype: column 'c' holds 'fast' in row 7"],
    ),
    "semicolons": ("x.csv", lambda path: csv(path, sep=";"), ["x.csv: its fields are separated by semicolons"]),
    "a sensor twice": ("x.csv", lambda path: csv(path, FRAME.set_axis([*"aabc"], axis=1)), ["column 1 occurs twice"]),
    "a row left out": ("x.csv", lambda path: csv(path, FRAME.drop(TIMES[9])), ["gap: 1 x 30 minutes", "row 9"]),
    "a row twice": ("x.csv", lambda path: csv(path, FRAME.iloc[[*range(9), *range(8, 50)]]), ["duplicate: ", "row 9"]),
    "rows backwards": ("x.csv", lambda path: csv(path, FRAME[::-1]), ["x.csv: the time step must be", "-30 minutes"]),
    "no times": ("x.npz", lambda path: np.savez(path, data=VALUES), ["x.npz: has no times"]),
    "a pickle": ("x.npz", hostile, ["x.npz: not a readable .npz"]),
    "a pickle as h5": ("x.h5", hostile, ["x.h5: not a readable .h5"]),
    "a pickle as parquet": ("x.parquet", hostile, ["x.parquet: not a readable .parquet"]),
    "a pickle as csv": ("x.csv", hostile, ["x.csv: not a readable .csv"]),
    "a pickle as such": ("x.pkl", hostile, ["x.pkl: unknown file extension '.pkl'"]),
    "pickled readings in npz": (
        "x.npz",
        lambda path: npz(path, np.array([[Hostile()] * 2] * 4, dtype=object)),
        ["x.npz: array 'data' holds Python objects", "nothing was run"],
    ),
    "pickled times in npz": (
        "x.npz",
        lambda path: npz(path, times=np.array([Hostile()] * 400, dtype=object)),
        ["x.npz: array 'times' holds Python objects"],
    ),
    "more than any memory, in npz": ("x.npz", bomb, ["x.npz: array 'data' declares 1000000000 x 1000 values"]),
    "more than any memory, in h5": ("x.h5", lambda path: h5(path, change=absurd), ["x.h5: block0_values declares"]),
    "another file's values, in h5": ("x.h5", lambda path: h5(path, change=elsewhere), ["a link to another file"]),
}


def pickled(content: Any) -> Make:
    return lambda path: path.write_bytes(pickle.dumps(content, protocol=2))


GRAPHS: dict[str, tuple[str, Make, list[str]]] = {
    "a graph that runs code": ("g.pkl", hostile, ["g.pkl: not a pickled graph", "nothing was run"]),
    "code among the ids": ("g.pkl", pickled([[Hostile(), *"bcd"], {}, GRAPH]), ["g.pkl: not a pickled graph"]),
    "code as an index": ("g.pkl", pickled([IDS, {"a": Hostile()}, GRAPH]), ["g.pkl: not a pickled graph"]),
    "a graph cut short": ("g.pkl", half(pickled([IDS, {}, GRAPH])), ["g.pkl: not a pickled graph"]),
    "a graph of another size": ("g.pkl", pickled([IDS[:3], {}, GRAPH[:3, :3]]), ["shape (3, 3)", "have 4 sensors"]),
    "a graph of other sensors": ("g.pkl", pickled([[*"abcx"], {}, GRAPH]), ["sensor 'd' of the readings is not in"]),
    "a graph with fewer names": ("g.pkl", pickled([IDS[:2], {}, GRAPH]), ["g.pkl: names 2 sensors"]),
    "a graph with NaN": ("g.pkl", pickled([IDS, {}, GRAPH * np.nan]), ["g.pkl: the graph holds nan at (0, 0)"]),
    "a graph of text": ("g.pkl", pickled("text"), ["g.pkl: expected [sensor ids"]),
    "an unknown road": (
        "g.csv",
        lambda path: path.write_text("from,to,cost\na,b,1\na,z,1\n"),
        ["g.csv, line 3", "'z'"],
    ),
    "roads without a header": ("g.csv", lambda path: path.write_text("a,b,1\n"), ["g.csv: expected the columns from"]),
    "an empty list of roads": ("g.csv", Path.touch, ["g.csv: not a readable CSV of edges"]),
    "no graph": ("g.pkl", lambda path: None, ["g.pkl: no such file"]),
    "another form": ("g.npz", npz, ["g.npz: unknown graph file extension '.npz'"]),
}
