"""Bad readings, graphs and models: exit code 2 and one message with the place; nothing run, nothing written.

Each table maps a name to what is made and the words that the message must hold; every command that reads such a file is
tried on it. Commands run in this process: what they refuse, they refuse before any other is started.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.readers import read_table
from experiments.cli import main
from tests.faults.bad_readings import (
    CANARY,
    FRAME,
    GRAPH,
    GRAPHS,
    IDS,
    READINGS,
    TIMES,
    VALUES,
    Hostile,
    Make,
    csv,
    h5,
    hostile,
    pickled,
)
from tests.faults.bad_yaml import MODEL, TRAINING
from tests.faults.conftest import FaultTable
from tests.faults.refusals import ABLATE, CHECK, INFO, TRAIN, TUNE, Tries, refused, try_all, write_inputs

ROOT = str(Path(__file__).parents[2])


@pytest.mark.fault("input")
def test_readings(folder: Path, fault_table: FaultTable) -> None:
    def tries(case: tuple[str, Make, list[str]]) -> Tries:
        file, make, words = case
        make(Path(file))
        write_inputs(file)
        yield from ((command, words) for command in (TRAIN, ABLATE, TUNE, CHECK, INFO, ["data", "check", file]))

    began = time.perf_counter()
    count = try_all(folder, READINGS, tries)
    assert count == 6 * len(READINGS)
    fault_table.row(
        "readings cut short, of a wrong shape or type, NaN, infinite, pickled, of absurd size, in another file",
        files=len(READINGS),
        refusals=count,
        seconds=time.perf_counter() - began,
    )


@pytest.mark.fault("input")
def test_graphs(folder: Path, fault_table: FaultTable) -> None:
    def tries(case: tuple[str, Make, list[str]]) -> Tries:
        file, make, words = case
        make(Path(file))
        write_inputs(more=f", graph: {file}")
        yield from ((command, words) for command in (TRAIN, ABLATE, TUNE, CHECK, INFO))

    count = try_all(folder, GRAPHS, tries)
    assert count == 5 * len(GRAPHS)
    fault_table.row("a graph cut short, of other sensors, or a pickle that would run code", refusals=count)


@pytest.mark.fault("input")
def test_too_few_rows_leave_nothing_behind(folder: Path, fault_table: FaultTable) -> None:
    csv(Path("ok.csv"), FRAME[:20])
    write_inputs()
    for command in (TRAIN, ABLATE, TUNE):
        assert not refused(command, ["20 rows are too few for windows of 12 input and 12 output steps"])
    csv(Path("ok.csv"), FRAME * 0 + 7)
    for command in (TRAIN, ABLATE, TUNE):
        assert not refused(command, ["the training part of the data is constant"])
    fault_table.row("fewer rows than windows need; readings that are all the same")


@pytest.mark.fault("input")
def test_in_a_process_of_its_own(folder: Path, fault_table: FaultTable) -> None:
    """What a user sees in a terminal: nothing but the message, also at the process's end."""
    pickled([IDS, {"a": Hostile()}, GRAPH])(Path("g.pkl"))
    write_inputs(more=", graph: g.pkl")
    command = [sys.executable, "-m", "experiments.cli", *ABLATE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": ROOT})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("altformer: ") and done.stderr.count("\n") == 1 and "nothing was run" in done.stderr
    assert not Path("runs").exists()
    fault_table.row("a hostile road graph, as a user runs `altformer ablate`", must="one line on standard error")


def test_the_hostile_pickle_would_run(folder: Path) -> None:
    hostile(Path("x.pkl"))
    pickle.loads(Path("x.pkl").read_bytes())
    assert Path(CANARY).exists()
    Path(CANARY).unlink()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that was trained on the readings."""
    there = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(there)
    try:
        csv(Path("ok.csv"))
        write_inputs()
        assert main([*TRAIN, "--experiment_name", "tiny"]) == 0
    finally:
        os.chdir(before)
    return there


@pytest.mark.fault("input")
def test_readings_to_forecast_from(folder: Path, trained: Path, fault_table: FaultTable) -> None:
    """What a model is asked to forecast from; NaN is a missing reading there, and earlier rows are not looked at."""
    left_alone = {"one row", "a row left out", "a row twice", "NaN", "NaN in h5", "infinite", "infinite in npz"}
    left_alone |= {"beyond float32", "no sensor", "rows backwards", "a sensor twice", "no times"}
    cases = {name: case for name, case in READINGS.items() if name not in left_alone}
    late = FRAME.copy()
    late.iloc[-3, 1] = np.inf
    doubled, others = (FRAME.set_axis([*names], axis=1) for names in ("aabc", "abcx"))
    cases |= {
        "infinite in the window": ("x.csv", lambda path: csv(path, late), ["x.csv: ", "inf", "sensor b"]),
        "a gap in the window": ("x.csv", lambda path: csv(path, FRAME.drop(TIMES[-3])), ["x.csv: ", "gap"]),
        "too few rows": ("x.csv", lambda path: csv(path, FRAME[:5]), ["x.csv: "]),
        "other sensors": (
            "x.csv",
            lambda path: csv(path, others),
            ["missing sensor d", "unknown sensor x"],
        ),
        "a sensor in two columns": (
            "x.csv",
            lambda path: csv(path, doubled),
            ["x.csv: ", "'a'"],
        ),
        "without times": ("x.npz", lambda path: np.savez(path, data=VALUES), ["x.npz: has no times"]),
    }

    def tries(case: tuple[str, Make, list[str]]) -> Tries:
        file, make, words = case
        make(Path(file))
        out = str(trained / "runs")
        yield ["predict", "--run", "tiny", "--input", file, "--output", "forecast.csv", "--out", out], words

    count = try_all(folder, cases, tries)
    assert count == len(cases)
    fault_table.row("readings that a model is to forecast from", refusals=count)


@pytest.mark.fault("input")
def test_a_damaged_model(folder: Path, trained: Path, fault_table: FaultTable) -> None:
    best = next((trained / "runs" / "cells").glob("*/checkpoints/*/model.safetensors")).parent
    for number, file in enumerate(["model.safetensors", "config.json", "data.json", "sums.json"]):
        copy = Path(f"copy-{number}")
        shutil.copytree(best, copy)
        content = (copy / file).read_bytes()
        for damaged in (
            content[: len(content) // 2],
            bytes([content[0] ^ 1]) + content[1:],
            pickle.dumps(Hostile()),
            b"",
        ):
            (copy / file).write_bytes(damaged)
            assert not refused(["predict", "--run", str(copy), "--input", "ok.csv"], [f"{copy}/{file}: ", "damaged"])
    fault_table.row("a trained model with a file cut short, a bit flipped, or a pickle in its place", files=4)


@pytest.mark.fault("input")
def test_sensors_in_another_order(folder: Path, trained: Path, fault_table: FaultTable) -> None:
    """The graph follows the readings, and a forecast the order that its model was trained in."""
    order = [2, 0, 3, 1]
    csv(Path("other.csv"), FRAME.iloc[:, order])
    pickled([IDS, {}, GRAPH])(Path("g.pkl"))
    Path("g.csv").write_text("from,to,cost\nb,a,1\nc,b,1\n")
    for graph in ("g.pkl", "g.csv"):
        data, other = (load(DatasetConfig(path=file, graph=graph)) for file in ("ok.csv", "other.csv"))
        assert other.sensor_ids == ("c", "a", "d", "b")
        assert data.adjacency is not None and other.adjacency is not None
        np.testing.assert_array_equal(other.values, data.values[:, order])
        np.testing.assert_array_equal(other.adjacency, data.adjacency[np.ix_(order, order)])
        assert other.identity != data.identity, "so that their cells are told apart"
    texts = []
    for file in ("ok.csv", "other.csv"):
        out = io.StringIO()
        with redirect_stdout(out):
            assert main(["predict", "--run", "tiny", "--input", file, "--out", str(trained / "runs")]) == 0
        texts.append(out.getvalue())
    assert texts[0] == texts[1] and texts[0].startswith("time,a,b,c,d\n")
    fault_table.row(
        "the sensors of the readings in another order than the graph's or the model's", must="equal numbers"
    )


@pytest.mark.slow
@pytest.mark.fault("input")
def test_a_known_data_set_in_another_order(metr_la: Path, folder: Path, fault_table: FaultTable) -> None:
    """METR-LA with two columns exchanged, and with a graph that would run code."""
    there = Path("data/METR-LA")
    there.mkdir(parents=True)
    table = read_table(metr_la)
    assert table.sensor_ids is not None and table.times is not None
    order = [1, 0, *range(2, len(table.sensor_ids))]
    names, times = [table.sensor_ids[k] for k in order], pd.DatetimeIndex(table.times)
    h5(there / "metr-la.h5", pd.DataFrame(table.values[:, order], index=times, columns=names))
    Path("exp.yaml").write_text(f"dataset: METR-LA\n{MODEL}{TRAINING}")
    for command in (TRAIN, CHECK):
        assert not refused(command, ["metr-la.h5", "their sensors are in another order"])
    (there / "metr-la.h5").unlink()
    (there / "metr-la.h5").symlink_to(metr_la)
    hostile(there / "adj_mx.pkl")
    for command in (TRAIN, CHECK):
        assert not refused(command, ["adj_mx.pkl: not a pickled graph", "nothing was run"])
    fault_table.row("METR-LA with two sensors exchanged; with a graph that would run code")


@pytest.fixture
def metr_la(metr_la_dir: Path) -> Path:
    """The real file, found before the data folder is another."""
    return next(path.resolve() for path in (metr_la_dir / "METR-LA").glob("*.h5"))
