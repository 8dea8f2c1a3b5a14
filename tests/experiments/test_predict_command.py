from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.forecast import load_forecaster
from experiments.cli import main
from experiments.runs import find_run


@pytest.fixture(scope="module")
def readings():
    data = load(DatasetConfig(name="simulated", sensors=8, days=4))
    index = pd.DatetimeIndex(data.times[-40:], name="time")
    return pd.DataFrame(data.values[-40:], index=index, columns=list(data.sensor_ids))


@pytest.fixture
def given(readings, tmp_path):
    readings.to_csv(tmp_path / "readings.csv")
    return tmp_path / "readings.csv"


def predict(out, given, *arguments, run="seed0"):
    return main(["predict", "--run", run, "--input", str(given), "--out", str(out), "--device", "cpu", *arguments])


def read(source):
    return pd.read_csv(source, index_col="time", parse_dates=True)


def test_the_forecast_of_the_next_hour_is_written_for_all_sensors(trained_out, given, readings, tmp_path, capsys):
    output = tmp_path / "deep" / "forecast.csv"
    assert predict(trained_out, given, "--output", str(output)) == 0
    assert "12 steps of 8 sensors, 2024-01-05 00:00:00 to 2024-01-05 00:55:00" in capsys.readouterr().out
    expected = load_forecaster(find_run("seed0", trained_out).folder).forecast(readings)
    written = read(output)
    np.testing.assert_allclose(written.to_numpy(), expected.to_numpy(), rtol=1e-6)
    assert list(written.columns) == list(readings.columns) and (written.index == expected.index).all()


def test_without_an_output_it_goes_to_standard_output_and_nothing_else_does(trained_out, given, capsys):
    assert predict(trained_out, given) == 0
    assert read(io.StringIO(capsys.readouterr().out)).shape == (12, 8)


def test_parquet_other_order_and_a_checkpoint_folder_give_the_same(trained_out, given, readings, tmp_path, capsys):
    predict(trained_out, given)
    expected = capsys.readouterr().out
    readings[readings.columns[::-1]].to_parquet(tmp_path / "readings.parquet")
    best = load_forecaster(find_run("seed0", trained_out).folder).loaded.folder
    assert predict(trained_out, tmp_path / "readings.parquet", run=str(best)) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda frame: frame.drop(columns=frame.columns[3]).to_csv(), "readings of other sensors: missing sensor"),
        (lambda frame: frame.assign(other=1.0).to_csv(), "unknown sensor other"),
        (lambda frame: frame.iloc[-5:].to_csv(), "the model looks at 12 rows, got 5"),
        (lambda frame: frame.drop(frame.index[-4]).to_csv(), "gap: 1 x 5 minutes absent after 2024-01-04 23:35:00"),
        (lambda frame: frame.iloc[::3].to_csv(), "gap: 2 x 5 minutes absent"),
        (lambda frame: frame.to_csv().replace(",", ";"), "its fields are separated by semicolons"),
        (lambda frame: frame.to_csv()[:-20] + "abc\n", "truncated: its last row (39) has"),
        (lambda frame: frame.assign(**{frame.columns[2]: np.nan}).to_csv(), "nothing in any of the 40 rows of sensor"),
        (lambda frame: frame.reset_index(drop=True).to_csv(), "no time column"),
        (lambda frame: "", "readings.csv"),
        (lambda frame: "time\n", "readings.csv"),
        (lambda frame: frame.to_csv().splitlines()[0] + "\n", "0 rows"),
    ],
    ids=[
        "absent",
        "unknown",
        "short",
        "gap",
        "step",
        "semicolons",
        "truncated",
        "silent",
        "timeless",
        "empty",
        "header",
        "rows",
    ],
)
def test_broken_input_is_one_message_and_nothing_is_written(trained_out, readings, tmp_path, capsys, text, message):
    given = tmp_path / "readings.csv"
    given.write_text(text(readings))
    assert predict(trained_out, given, "--output", str(tmp_path / "forecast.csv")) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["readings.csv"]


@pytest.mark.parametrize(
    ("arguments", "run", "message"),
    [
        (["--output", "{folder}/readings.csv"], "seed0", "is the file of the readings, which would be lost"),
        (["--output", "{folder}/readings.csv/x.csv"], "seed0", "cannot be written"),
        ([], "seed", "unknown run 'seed'"),
    ],
)
def test_mistakes_on_the_command_line(trained_out, given, capsys, arguments, run, message):
    before = given.read_text()
    arguments = [text.format(folder=given.parent) for text in arguments]
    assert predict(trained_out, given, *arguments, run=run) == 2
    assert message in capsys.readouterr().err and given.read_text() == before


def test_a_missing_file_is_one_message(trained_out, tmp_path, capsys):
    assert predict(trained_out, tmp_path / "nowhere.csv") == 2
    assert "no such file" in capsys.readouterr().err
