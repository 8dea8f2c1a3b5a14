import math

import pytest
from pydantic import ValidationError

from altformer.data.config import DatasetConfig


def test_a_plain_string_is_a_name():
    assert DatasetConfig.model_validate("METR-LA") == DatasetConfig(name="METR-LA")


@pytest.mark.parametrize("written", ["nan", "NaN", math.nan])
def test_nan_survives_the_record(written):
    config = DatasetConfig(path="x.csv", null_value=written)
    assert DatasetConfig.model_validate_json(config.model_dump_json()) == config
    assert math.isnan(float(config.null_value))


def test_own_file_in_one_line_of_yaml():
    config = DatasetConfig.model_validate({"path": "my.csv", "freq": "15min", "split": [7, 1, 2], "null_value": 0})
    assert (config.split, config.null_value) == ((7.0, 1.0, 2.0), 0.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of name"),
        ({"name": "METR-LA", "path": "x.csv"}, "exactly one of name"),
        ({"name": "METR-LA", "freq": "5min"}, "freq describes your own file"),
        ({"name": "METR-LA", "null_value": 0}, "null_value describes your own file"),
        ({"name": "METR-LA", "split": [7, 1, 2]}, "split describes your own file"),
        ({"name": "simulated", "graph": "g.csv"}, "graph describes your own file"),
        ({"name": "METR-LA", "sensors": 20}, "sensors belongs to the data set 'simulated'"),
        ({"path": "x.csv", "simulation_seed": 1}, "simulation_seed belongs"),
        ({"path": "x.csv", "split": [7, 0, 2]}, "three parts"),
        ({"path": "x.csv", "split": [7, 1]}, "split"),
        ({"path": "x.csv", "null_value": math.inf}, "null_value"),
        ({"path": "x.csv", "null_value": "none"}, "null_value"),
        ({"name": "simulated", "days": 1}, "days"),
        ({"name": "METR-LA", "input_len": 0}, "input_len"),
        ({"name": "METR-LA", "inputlen": 12}, "inputlen"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        DatasetConfig.model_validate(fields)
