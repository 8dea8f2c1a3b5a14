"""Forecasting for use: the next steps of all sensors from a table of recent readings.

    from altformer.forecast import load_forecaster
    forecaster = load_forecaster("runs/cells/<hash>")
    forecast = forecaster.forecast(readings)

t: input steps, h: output steps, n: sensors
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from altformer.data.readers import Table
from altformer.data.rules import Finding, order_findings, time_findings, value_findings
from altformer.data.traffic import Readings, Times, days_of_week, slots_of_day
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.evaluate import model_forecaster
from altformer.loaded import LoadedModel, load_model
from altformer.training.checkpoint import DataFacts

log = logging.getLogger(__name__)

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
        named by its id, in any order; at least t rows. The last t are the window and alone are looked at: earlier ones
        may hold anything as long as time rises. NaN, or the data's own mark (0 in the public data sets), is a missing
        reading. A sensor without any reading in the window is forecast as in scoring, from its neighbours and the time,
        and named in a logged warning. Raises UserError for other sensors, an empty column (NaN in every row given), a
        window with gaps in time and cells in it that are infinite or no number.
        """
        columns = self._columns(readings)
        times = self._times(readings.index)
        values = self._window(readings.iloc[:, columns], times)
        ahead = np.arange(1, self.facts.output_len + 1) * np.timedelta64(self.facts.step_minutes, "m")
        windows = self._windows(values, np.concatenate([times, times[-1] + ahead]))
        with torch.inference_mode():
            origin = torch.tensor([self.facts.input_len], device=windows.values.device)
            forecast = model_forecaster(self.loaded.model, windows)(origin)[0].cpu().numpy()
        index = pd.DatetimeIndex(readings.index[-1] + pd.to_timedelta(ahead), name=readings.index.name)
        return pd.DataFrame(forecast, index=index, columns=list(self.facts.sensor_ids))

    def _columns(self, readings: pd.DataFrame) -> list[int]:
        """The place of each of the model's sensors among the columns."""
        if not isinstance(readings, pd.DataFrame):
            raise UserError(f"readings must be a pandas DataFrame, got {type(readings).__name__}")
        place: dict[str, int] = {}
        for k, name in enumerate(map(str, readings.columns)):
            if name in place:
                raise UserError(
                    f"readings: sensor '{name}' is in columns {place[name]} and {k}; columns must be named by their "
                    "sensors, in a CSV by its first line"
                )
            place[name] = k
        absent = [name for name in self.facts.sensor_ids if name not in place]
        other = sorted(place.keys() - set(self.facts.sensor_ids), key=place.__getitem__)
        problems = [f"{word} {_named(names)}" for word, names in (("missing", absent), ("unknown", other)) if names]
        if problems:
            trained = f"the model forecasts {len(self.facts.sensor_ids)} sensors"
            raise UserError(f"readings of other sensors: {'; '.join(problems)} ({trained})")
        return [place[name] for name in self.facts.sensor_ids]

    def _times(self, index: pd.Index) -> Times:
        """The local time of the last t rows (t,), datetime64[m], found to be evenly spaced and the latest of all."""
        if not isinstance(index, pd.DatetimeIndex):
            raise UserError(f"readings must be indexed by time (a DatetimeIndex), got {index.dtype}")
        needed = self.facts.input_len
        if len(index) < needed:
            raise UserError(f"readings: the model looks at {needed} rows, got {len(index)}")
        times: Times = index.tz_localize(None).to_numpy()
        _refuse(order_findings(times))
        _refuse(time_findings(times[-needed:], self.facts.step_minutes), rows_before=len(times) - needed)
        return times[-needed:].astype("datetime64[m]")

    def _window(self, readings: pd.DataFrame, times: Times) -> Readings:
        """The last t rows (t,n), missing readings as the data's own mark."""
        last = readings.iloc[-len(times) :]
        for name in last.columns:
            cells = last[name]
            bad = _first_no_number(cells)
            if bad is not None:
                raise UserError(
                    f"readings: sensor '{name}' holds {cells.iloc[bad]!r} at {cells.index[bad]}, expected numbers"
                )
        window = last.to_numpy(dtype=np.float64, na_value=np.nan)
        table = Table(window, times, self.facts.sensor_ids)
        _refuse(value_findings(table, nan_is_missing=True), rows_before=len(readings) - len(times))
        self._refuse_empty(readings)
        values = np.where(np.isnan(window), self.facts.null_value, window).astype(np.float32)
        silent = self._those((values == np.float32(self.facts.null_value)).all(axis=0))
        if silent:
            log.warning(
                "readings: nothing in the last %d rows of %s; forecast without", len(values), _named(silent, most=None)
            )
        return values

    def _refuse_empty(self, readings: pd.DataFrame) -> None:
        empty = self._those(readings.isna().all().to_numpy())
        if empty:
            raise UserError(
                f"readings: nothing in any of the {len(readings)} rows of {_named(empty)}: an empty column counts as "
                f"an absent one (a sensor that was silent has {self.facts.null_value:g} there)"
            )

    def _those(self, which: npt.NDArray[np.bool_]) -> list[str]:
        """The names of the sensors that are marked (n,)."""
        return [self.facts.sensor_ids[k] for k in np.flatnonzero(which)]

    def _windows(self, window: Readings, times: Times) -> Windows:
        """The window (t,n) and, as readings yet missing, the steps to be forecast; times (t+h,) of both."""
        facts = self.facts
        device = next(iter(self.loaded.model.state_dict().values()), torch.empty(0)).device
        future = np.full((facts.output_len, len(facts.sensor_ids)), facts.null_value, dtype=np.float32)
        return Windows(
            values=torch.tensor(np.concatenate([window, future]), device=device),
            time_of_day=torch.tensor(slots_of_day(times, facts.step_minutes), device=device),
            day_of_week=torch.tensor(days_of_week(times), device=device),
            origins={},
            scaler=facts.scaler,
            null_value=facts.null_value,
            input_len=facts.input_len,
            output_len=facts.output_len,
        )


def load_forecaster(folder: Path | str, device: torch.device | str = "cpu") -> TrainedForecaster:
    """The forecaster of a cell's folder (its best epoch) or of one checkpoint folder; UserError as ``load_model``."""
    return TrainedForecaster(load_model(folder, device))


def _refuse(findings: list[Finding], rows_before: int = 0) -> None:
    """UserError with the first finding, its row counted among all rows given."""
    for finding in findings[:1]:
        row = None if finding.row is None else finding.row + rows_before
        raise UserError(f"readings: {replace(finding, row=row)}")


def _named(names: list[str], most: int | None = _SHOWN) -> str:
    shown = names[:most]
    others = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"sensor{'s' * (len(names) > 1)} {', '.join(shown)}{others}"


def _first_no_number(cells: pd.Series) -> int | None:
    """The row of the first cell that is text, a truth value, a time or the like; None where all are numbers or NaN."""
    if pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype):
        return None
    empty = cells.isna().to_numpy()

    def is_number(cell: object) -> bool:
        return isinstance(cell, Real) and not isinstance(cell, bool)

    return next((row for row, cell in enumerate(cells) if not empty[row] and not is_number(cell)), None)
