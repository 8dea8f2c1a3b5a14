"""``altformer predict``: the next steps of all sensors from a file of recent readings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from altformer.errors import UserError
from altformer.files import write_text
from experiments.dataset_choice import choose_device
from experiments.runs import RUN_HELP, find_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--run", required=True, metavar="RUN", help=f"{RUN_HELP}, or a checkpoint folder")
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        metavar="READINGS",
        help="recent readings, CSV, parquet or HDF5: a column of times and one for each sensor",
    )
    parser.add_argument("--output", type=Path, metavar="FORECAST.csv", help="default: standard output")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are found (default: runs)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(args: argparse.Namespace) -> int:
    """Forecast and write a CSV of the same form; nothing is written when the readings are refused."""
    import pandas as pd

    from altformer.data.readers import read_table
    from altformer.forecast import load_forecaster

    if args.output is not None and args.output.resolve() == args.input.resolve():
        raise UserError(f"--output {args.output} is the file of the readings, which would be lost")
    folder = find_folder(args.run, args.out)
    table = read_table(args.input)
    if table.times is None:
        raise UserError(f"{args.input}: has no times; give CSV or parquet with a time column")
    forecaster = load_forecaster(folder, choose_device(args.device))
    names = table.sensor_ids or tuple(str(k) for k in range(table.values.shape[1]))
    readings = pd.DataFrame(table.values, index=pd.DatetimeIndex(table.times), columns=list(names))
    try:
        forecast = forecaster.forecast(readings)
    except UserError as error:
        raise UserError(f"{args.input}: {error}") from error
    text = forecast.to_csv(index_label="time", date_format="%Y-%m-%d %H:%M:%S", float_format="%.7g")
    if args.output is None:
        sys.stdout.write(text)
        return 0
    try:
        write_text(args.output, text)
    except OSError as error:
        raise UserError(f"--output {args.output}: cannot be written: {error.strerror}") from error
    sensors = len(forecast.columns)
    print(f"{args.output}: {len(forecast)} steps of {sensors} sensors, {forecast.index[0]} to {forecast.index[-1]}")
    return 0
