"""`altformer data`: which data sets there are, what one holds, getting it, and finding what is wrong with it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from altformer.data.check import Checked, check
from altformer.data.config import DatasetConfig
from altformer.data.datasets import data_dir, find_file, load
from altformer.data.fetch import fetch
from altformer.data.own_file import null_value_of
from altformer.data.readers import READERS
from altformer.data.specs import SIMULATED, SPECS
from altformer.data.traffic import TrafficData
from altformer.errors import UserError, unknown_name
from experiments.compose import compose

#: What to say of a rule once, below the findings.
_WAY_ON = {
    "file": "What else is wrong shows once that is mended.",
    "gap": "A gap is mended by rows with these times and empty fields (and null_value: nan).",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `list`, `info SOURCE`, `fetch NAME` and `check SOURCE`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|info|fetch|check")
    actions.add_parser("list", help="the known data sets, and which are at hand")
    info = actions.add_parser("info", help="what a data set holds")
    info.add_argument("--plot", type=Path, metavar="FILE.png", help="also write a picture of it over space and time")
    get = actions.add_parser("fetch", help="get a data set from its public places")
    get.add_argument("name", metavar="NAME")
    find = actions.add_parser("check", help="list what is wrong with a data set or a file, and where")
    for action in (info, find):
        action.add_argument(
            "source",
            metavar="SOURCE",
            help="a data set's name, a file of readings, or an experiment's YAML",
        )
        action.add_argument("--freq", help="time step of your own file, such as 15min (default: from its times)")
        action.add_argument("--null-value", help="what marks a missing reading in your own file: a number or nan (0)")
        action.add_argument("--graph", type=Path, help="road graph of your own file: adj_mx.pkl or from,to,cost CSV")


def run(args: argparse.Namespace) -> int:
    """Do it; 0 when all is well, 2 when a check found something (UserError is the command line's to print)."""
    return {"list": _list, "info": _info, "fetch": _fetch, "check": _check}[args.action](args)


def _list(_args: argparse.Namespace) -> int:
    print(f"data directory: {data_dir().absolute()} (environment variable ALTFORMER_DATA)\n")
    print(f"{'name':<10} {'rows':>6} {'sensors':>7}  {'from':<10}  {'unit':<22}  at hand")
    for name, spec in SPECS.items():
        path = find_file(name, spec.files, data_dir())
        place = str(path) if path else f"no: altformer data fetch {name}"
        print(f"{name:<10} {spec.shape[0]:>6} {spec.shape[1]:>7}  {spec.start[:10]:<10}  {spec.unit:<22}  {place}")
    print(f"{SIMULATED:<10} {'any':>6} {'any':>7}  {'2024-01-01':<10}  {'mph':<22}  always, needs no file")
    return 0


def _info(args: argparse.Namespace) -> int:
    config = _config(args)
    name = config.name
    if name in SPECS and find_file(name, SPECS[name].files, data_dir()) is None:
        spec = SPECS[name]
        print(f"{name}: {spec.shape[0]} rows x {spec.shape[1]} sensors from {spec.start}, {spec.unit}")
        print(f"not at hand in {data_dir().absolute()}; public places:")
        print("\n".join(f"  {url}" for source in spec.sources for url in source.urls))
        return 0
    data = load(config)
    print(_description(data, _marked(config, data)))
    if args.plot:
        from altformer.data.plot import plot_space_time

        plot_space_time(data, args.plot)
        print(f"{'plot':<16}{args.plot}")
    return 0


def _marked(config: DatasetConfig, data: TrafficData) -> str:
    """What stands for a missing reading in the file."""
    of_file = data.null_value if config.path is None else null_value_of(config)
    return "empty, or nan" if math.isnan(of_file) else f"{of_file:g}"


def _description(data: TrafficData, marked: str) -> str:
    seen = data.values[data.values != np.float32(data.null_value)].astype(np.float64)
    graph = "none"
    if data.adjacency is not None:
        graph = f"{np.count_nonzero(data.adjacency)} non-zero entries, diagonal included"
    known = data.name in SPECS and SPECS[data.name].content_hash == data.content_hash
    rows = {
        "name": data.name,
        "readings": f"{len(data.values)} rows x {data.num_sensors} sensors, {data.unit or 'unit not given'}",
        "time": f"{data.times[0]} to {data.times[-1]}, every {data.step_minutes} minutes".replace("T", " "),
        "missing": f"{data.missing_share:.2%}, marked {marked}",
        "mean, std": f"{seen.mean():.4f}, {seen.std():.4f} without missing readings" if seen.size else "no readings",
        "split": " : ".join(f"{10 * part:g}" for part in data.split) + " (train, validation, test)",
        "road graph": graph,
        "content hash": data.content_hash + (" (the known one)" if known else ""),
    }
    return "\n".join(f"{label:<16}{value}" for label, value in rows.items())


def _fetch(args: argparse.Namespace) -> int:
    fetched = fetch(args.name)
    print(
        f"{args.name}: {fetched.path} ({f'fetched from {fetched.origin}' if fetched.origin else 'at hand'}, verified)"
    )
    if fetched.graph:
        print(f"{args.name}: {fetched.graph} (road graph)")
    for note in fetched.notes:
        print(f"{args.name}: {note}")
    return 0


def _check(args: argparse.Namespace) -> int:
    checked = check(_config(args))
    print(_summary(args.source, checked))
    for finding in checked.findings:
        print(f"  {finding}")
    for rule in dict.fromkeys(finding.rule for finding in checked.findings):
        if rule in _WAY_ON:
            print(_WAY_ON[rule])
    return 2 if checked.findings else 0


def _summary(source: str, checked: Checked) -> str:
    parts = [str(checked.path or source)]
    if checked.shape is not None:
        parts.append(f"{checked.shape[0]} rows x {checked.shape[1]} sensors")
    if checked.missing_share is not None:
        parts.append(f"{checked.missing_share:.2%} missing")
    if checked.silent_sensors:
        shown = ", ".join(checked.silent_sensors[:5]) + (", ..." if len(checked.silent_sensors) > 5 else "")
        parts.append(f"{len(checked.silent_sensors)} sensors without any reading ({shown})")
    count = len(checked.findings)
    found = f"{count} finding{'s' * (count > 1)} (rows counted from 0 below the header):"
    parts.append(found if count else "nothing wrong")
    return f"{parts[0]}: {', '.join(parts[1:])}"


def _config(args: argparse.Namespace) -> DatasetConfig:
    """A name of the table, a file of readings, or what an experiment's YAML says of its data; else a mistyped name."""
    given = {"freq": args.freq, "null_value": args.null_value, "graph": args.graph}
    described = {field: value for field, value in given.items() if value is not None}
    if args.source in SPECS or args.source == SIMULATED:
        if described:
            raise UserError(f"--{next(iter(described)).replace('_', '-')} describes your own file, not {args.source}")
        return DatasetConfig(name=args.source)
    path = Path(args.source)
    if path.suffix in (".yaml", ".yml"):
        return _of_experiment(path, described)
    if path.suffix.lower() not in READERS and not path.exists():
        raise unknown_name("data set", args.source, [*SPECS, SIMULATED])
    try:
        return DatasetConfig(path=path, **described)
    except ValueError as error:
        raise UserError(f"--null-value {args.null_value}: must be a number or nan") from error


def _of_experiment(path: Path, described: dict[str, Any]) -> DatasetConfig:
    """The data set of an experiment, with what the command line says of the file instead."""
    source = compose(path).dataset
    if described and source.path is None:
        raise UserError(f"--{next(iter(described)).replace('_', '-')} describes your own file, not {source.name}")
    return compose(path, settings={f"dataset.{field}": value for field, value in described.items()}).dataset
