"""``cells.csv``: what the issue asks for, safe for spreadsheets, nothing invented where a number is missing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.cells import COLUMNS, CellResult, read_cells, write_cells

ASKED_FOR = (
    "arm, seed, status, epochs, best_epoch, val_mae, test_mae, test_rmse, test_mape, test_mae_3, test_mae_6, "
    "test_mae_12, test_mae_unmasked, test_windows, profile, params, train_seconds, cell_hash, mlflow_run_id"
)


def test_columns_begin_as_asked_for() -> None:
    assert ", ".join(COLUMNS).startswith(f"{ASKED_FOR}, ")
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_numbers_survive(tmp_path: Path, make_record: Any) -> None:
    record = make_record(3.0123456789, seed=4)
    write_cells(tmp_path / "cells.csv", [CellResult("1-1-3-3", 4, "abc", record, "run")])
    (row,) = read_cells(tmp_path / "cells.csv")
    test, val = record["test"], record["val"]
    expected = {
        "arm": "1-1-3-3",
        "seed": 4,
        "status": "done",
        "epochs": 30,
        "best_epoch": record["best_epoch"],
        "val_mae": val["all"]["mae"],
        "test_mae": test["all"]["mae"],
        "test_rmse": test["all"]["rmse"],
        "test_mape": test["all"]["mape"],
        "test_mae_3": test["3"]["mae"],
        "test_mae_6": test["6"]["mae"],
        "test_mae_12": test["12"]["mae"],
        "test_mae_unmasked": test["mae_unmasked"],
        "test_windows": 286,
        "profile": "full",
        "params": 1_300_000,
        "train_seconds": 150.0,
        "cell_hash": "abc",
        "mlflow_run_id": "run",
        "test_rmse_6": test["6"]["rmse"],
        "val_mae_unmasked": val["mae_unmasked"],
        "error": None,
    }
    assert {column: row[column] for column in expected} == expected


@pytest.mark.parametrize("status", ["stopped", "diverged", "failed"])
def test_a_cell_that_is_not_done_has_no_test_numbers(status: str, tmp_path: Path, make_record: Any) -> None:
    record = make_record(3.0, status=status)
    record["test"] = make_record(1.0)["test"]  # even if a record had them
    write_cells(tmp_path / "cells.csv", [CellResult("a", 0, "h", record)])
    with (tmp_path / "cells.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == status
    assert {row[column] for column in COLUMNS if column.startswith("test_")} == {"-"}
    assert (row["val_mae"] == "-") == (status == "failed")
    assert row["mlflow_run_id"] == "-"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_no_number_is_a_dash_never_zero(value: float | None, tmp_path: Path, make_record: Any) -> None:
    record = make_record(3.0)
    record["test"]["3"]["mae"] = value
    record["test"].pop("12")
    record["params"] = None
    result = CellResult("a", 0, "h", record)
    assert [result.value(column) for column in ("test_mae_3", "test_mae_12", "params")] == [None] * 3
    write_cells(tmp_path / "cells.csv", [result])
    (row,) = read_cells(tmp_path / "cells.csv")
    assert [row[column] for column in ("test_mae_3", "test_mae_12", "params")] == [None] * 3
    assert row["test_mae_6"] == record["test"]["6"]["mae"]


def test_a_cell_without_record_is_left_out(tmp_path: Path) -> None:
    result = CellResult("a", 0, "h", None)
    write_cells(tmp_path / "cells.csv", [result])
    assert read_cells(tmp_path / "cells.csv") == []
    assert (result.status, result.value("test_mae")) == ("not run", None)


NAMES = ["=1+1", "+x", "-1", "@sum", "\t=x", "'quoted", "-", "a,b", 'a"b', "two\nlines", "\r\nx", "<b>&_", "../x", "ü"]


@pytest.mark.parametrize("name", NAMES)
def test_names_survive_and_start_no_formula(name: str, tmp_path: Path, make_record: Any) -> None:
    write_cells(tmp_path / "cells.csv", [CellResult(name, 0, "h", make_record())])
    (row,) = read_cells(tmp_path / "cells.csv")
    assert row["arm"] == name
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.reader(file))[1][0]
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@given(name=st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_any_name_survives(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cells") / "cells.csv"
    write_cells(path, [CellResult(name, 0, "h", {"status": "done"})])
    assert [row["arm"] for row in read_cells(path)] == [name]


def test_an_old_table_is_replaced_whole(tmp_path: Path, make_record: Any) -> None:
    path = tmp_path / "cells.csv"
    write_cells(path, [CellResult("a", seed, "h", make_record(seed=seed)) for seed in range(3)])
    write_cells(path, [CellResult("b", 0, "h", make_record())])
    assert [row["arm"] for row in read_cells(path)] == ["b"]
    assert [file.name for file in tmp_path.iterdir()] == ["cells.csv"]
