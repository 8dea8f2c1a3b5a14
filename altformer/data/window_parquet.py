"""Readings from a table of ready-made windows, the form in which Hugging Face's `witgaw/METR-LA` holds them.

One row per sensor and origin t0: node_id, t0_timestamp, the 12 readings up to t0 (`x_t-11_d0` ... `x_t+0_d0`) and the
12 after it (`y_t+1_d0` ... `y_t+12_d0`). Every reading lies in up to 24 rows; each is taken once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import parquet

from altformer.data.graph import graph_sensor_ids
from altformer.errors import UserError

_KEYS = ["node_id", "t0_timestamp"]
_NOW = "x_t+0_d0"
_PAST = [f"x_t-{k}_d0" for k in range(11, 0, -1)]
_FUTURE = [f"y_t+{k}_d0" for k in range(1, 13)]


def join_windows(parts: list[Path], graph: Path | None, target: Path) -> None:
    """Write the readings of all parts as one wide parquet table, sensors in the order of the road graph.

    Raises UserError when a part is not such a table. Whether the readings are right is for the caller to verify.
    """
    try:
        now = pd.concat([pd.read_parquet(part, columns=[*_KEYS, _NOW]) for part in parts])
        wide = now.pivot(index="t0_timestamp", columns="node_id", values=_NOW).sort_index()
        wide.index = pd.DatetimeIndex(wide.index)
        first, last = now["t0_timestamp"].min(), now["t0_timestamp"].max()
        step = wide.index[1] - wide.index[0]
        before, after = _edge(parts, first, _PAST), _edge(parts, last, _FUTURE)
        before.index = pd.DatetimeIndex([wide.index[0] - step * k for k in range(11, 0, -1)])
        after.index = pd.DatetimeIndex([wide.index[-1] + step * k for k in range(1, 13)])
        whole = pd.concat([before, wide, after])
    except Exception as error:  # a broken file can raise nearly anything
        raise UserError(f"not a table of windows: {error}") from None
    whole.columns = pd.Index([str(name) for name in whole.columns])
    ids = graph_sensor_ids(graph) if graph is not None else ()
    if set(ids) == set(whole.columns):
        whole = whole[list(ids)]
    whole.index.name = None
    whole.to_parquet(target)


def _edge(parts: list[Path], origin: Any, columns: list[str]) -> pd.DataFrame:
    """The readings (12 or 11 steps, n) of the windows with one origin."""
    wanted = [*_KEYS, *columns]
    filters = [("t0_timestamp", "=", origin)]
    rows = pd.concat([parquet.read_table(part, columns=wanted, filters=filters).to_pandas() for part in parts])
    edge: pd.DataFrame = rows.set_index("node_id")[columns].T.sort_index(axis=1)
    if np.shape(edge)[1] == 0:
        raise KeyError(f"no window starts at {origin}")
    return edge
