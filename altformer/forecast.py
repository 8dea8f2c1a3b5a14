"""Forecasting for use: the next steps of all sensors from a table of recent readings.

    from altformer.forecast import load_forecaster
    forecaster = load_forecaster("runs/cells/<hash>")
    forecast = forecaster.forecast(readings)

t: input steps, h: output steps, n: sensors
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from altformer.data.readers import Table
from altformer.data.rules import time_findings, value_findings
from altformer.data.traffic import Readings, Times, TrafficData, read_only
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.loaded import DataFacts, LoadedModel, load_model

_SHOWN = 5  # sensors named in a message; the rest is counted


@dataclass(frozen=True)
class TrainedForecaster:
    """A trained model that takes readings as they come from the sensors."""

    loaded: LoadedModel

    @property
    def facts(self) -> DataFacts:
        """Sensors in their order, time step in minutes, lengths, unit and scaler of the training."""
        return self.loaded.facts

    def forecast(self, readings: pd.DataFrame) -> pd.DataFrame:
        """The next h steps after the last row, (h,n) in the data's unit, float32, columns in the training's order.

        ``readings``: one row per time step (DatetimeIndex, evenly spaced with the model's step), one column per sensor
        named by its id, in any order; at least t rows, of which the last t are used. NaN, or the data's own mark (0 in
        the public data sets), is a missing reading. Raises UserError for other sensors, gaps in time, cells that are no
        number or infinite, and a sensor of which the window holds nothing but NaN.
        """
        columns = self._columns(readings)
        times = self._times(readings.index)
        values = self._window(readings.iloc[:, columns], times)
        step = np.timedelta64(self.facts.step_minutes, "m")
        ahead = np.arange(1, self.facts.output_len + 1) * step
        data = self._data(values, np.concatenate([times[-self.facts.input_len :], times[-1] + ahead]))
        forecast = self._run(data)
        index = pd.DatetimeIndex(readings.index[-1] + pd.to_timedelta(ahead), name=readings.index.name)
        return pd.DataFrame(forecast, index=index, columns=list(self.facts.sensor_ids))

    def _columns(self, readings: pd.DataFrame) -> list[int]:
        """The place of each of the model's sensors among the columns."""
        if not isinstance(readings, pd.DataFrame):
            raise UserError(f"readings must be a pandas DataFrame, got {type(readings).__name__}")
        place: dict[str, int] = {}
        for k, name in enumerate(map(str, readings.columns)):
            if name in place:
                raise UserError(f"readings: sensor '{name}' is in columns {place[name]} and {k}")
            place[name] = k
        absent = [name for name in self.facts.sensor_ids if name not in place]
        other = sorted(place.keys() - set(self.facts.sensor_ids), key=place.__getitem__)
        problems = [f"{word} {_named(names)}" for word, names in (("missing", absent), ("unknown", other)) if names]
        if problems:
            trained = f"the model forecasts {len(self.facts.sensor_ids)} sensors"
            raise UserError(f"readings of other sensors: {'; '.join(problems)} ({trained})")
        return [place[name] for name in self.facts.sensor_ids]

    def _times(self, index: pd.Index) -> Times:
        """The local time of each row (T,), datetime64[m], found to be evenly spaced."""
        if not isinstance(index, pd.DatetimeIndex):
            raise UserError(f"readings must be indexed by time (a DatetimeIndex), got {index.dtype}")
        needed = self.facts.input_len
        if len(index) < needed:
            raise UserError(f"readings: the model looks at {needed} rows, got {len(index)}")
        findings = time_findings(index.tz_localize(None).to_numpy(), self.facts.step_minutes)
        if findings:
            raise UserError(f"readings: {findings[0]}")
        times: Times = index.tz_localize(None).to_numpy().astype("datetime64[m]")
        return times

    def _window(self, readings: pd.DataFrame, times: Times) -> Readings:
        """The last t rows (t,n), missing readings as the data's own mark."""
        for name in readings.columns:
            cells = readings[name]
            bad = _first_no_number(cells)
            if bad is not None:
                raise UserError(
                    f"readings: sensor '{name}' holds {cells.iloc[bad]!r} at {cells.index[bad]}, expected numbers"
                )
        window = readings.iloc[-self.facts.input_len :].to_numpy(dtype=np.float64, na_value=np.nan)
        table = Table(window, times[-self.facts.input_len :], self.facts.sensor_ids)
        findings = value_findings(table, nan_is_missing=True)
        if findings:
            raise UserError(f"readings: {findings[0]}")
        silent = np.isnan(window).all(axis=0)
        if silent.any():
            names = [self.facts.sensor_ids[k] for k in np.flatnonzero(silent)]
            raise UserError(f"readings: nothing in the last {len(window)} rows of {_named(names)}")
        return np.where(np.isnan(window), self.facts.null_value, window).astype(np.float32)

    def _data(self, window: Readings, times: Times) -> TrafficData:
        """The window and, as readings yet missing, the steps to be forecast: what scoring sees too."""
        facts = self.facts
        future = np.full((facts.output_len, len(facts.sensor_ids)), facts.null_value, dtype=np.float32)
        return TrafficData(
            name=facts.name,
            values=read_only(np.concatenate([window, future])),
            times=times,
            step_minutes=facts.step_minutes,
            sensor_ids=facts.sensor_ids,
            null_value=facts.null_value,
            split=(0.0, 0.0, 1.0),
            unit=facts.unit,
            adjacency=None,
            user_file=True,
            content_hash="",
        )

    def _run(self, data: TrafficData) -> Readings:
        device = next(iter(self.loaded.model.state_dict().values()), torch.empty(0)).device
        windows = Windows(
            values=torch.tensor(data.values, device=device),
            time_of_day=torch.tensor(data.time_of_day, device=device),
            day_of_week=torch.tensor(data.day_of_week, device=device),
            origins={},
            scaler=self.facts.scaler,
            null_value=data.null_value,
            input_len=self.facts.input_len,
            output_len=self.facts.output_len,
        )
        origin = torch.tensor([self.facts.input_len], device=device)
        with torch.inference_mode():
            forecast: Readings = self.loaded.forecaster(data, windows)(origin)[0].cpu().numpy()
        return forecast


def load_forecaster(folder: Path | str, device: torch.device | str = "cpu") -> TrainedForecaster:
    """The forecaster of a cell's folder (its best epoch) or of one checkpoint folder; UserError as ``load_model``."""
    return TrainedForecaster(load_model(folder, device))


def _named(names: list[str]) -> str:
    others = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"sensor{'s' * (len(names) > 1)} {', '.join(names[:_SHOWN])}{others}"


def _first_no_number(cells: pd.Series) -> int | None:
    """The row of the first cell that is text, a truth value, a time or the like; None where all are numbers or NaN."""
    if pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype):
        return None
    empty = cells.isna().to_numpy()

    def is_number(cell: object) -> bool:
        return isinstance(cell, Real) and not isinstance(cell, bool)

    return next((row for row, cell in enumerate(cells) if not empty[row] and not is_number(cell)), None)
