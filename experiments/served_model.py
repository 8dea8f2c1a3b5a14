"""The model file of a promoted cell, which MLflow copies into the model and runs when it is loaded.

Nothing is unpickled: MLflow gets this source, that of ``altformer``, and the checkpoint as JSON and safetensors.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

TIME = "time"


class ServedForecaster(PythonModel):  # type: ignore[misc]
    """A checkpoint's forecaster behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load and check the checkpoint among the model's artifacts."""
        from altformer.forecast import load_forecaster

        self._forecaster = load_forecaster(context.artifacts["checkpoint"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The next h steps of all sensors from raw readings, exactly as ``altformer.forecast`` gives them.

        ``model_input``: a DataFrame with one row per time step and one column per sensor, named by its id, indexed by
        time; or with the times in a column ``time``, as JSON and CSV have them: then the forecast has such a column
        too. At least as many rows as the model looks at. Raises UserError for readings it cannot use.
        """
        readings, in_column = _indexed(model_input)
        forecast = self._forecaster.forecast(readings)
        return forecast.rename_axis(TIME).reset_index() if in_column else forecast


def _indexed(given: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The readings by time, and whether their times were a column."""
    if isinstance(given, pd.DataFrame) and not isinstance(given.index, pd.DatetimeIndex) and TIME in given.columns:
        times = pd.DatetimeIndex(pd.to_datetime(given[TIME]), name=None)
        return given.drop(columns=[TIME]).set_axis(times, axis="index"), True
    return given, False


set_model(ServedForecaster())
