"""Plots of one cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from experiments.cell_plots import draw_cell_plots
from experiments.figure import distinct, drawing, short


def scores(mae: float) -> dict[str, Any]:
    return {step: {"mae": mae, "rmse": 2 * mae, "mape": 8.0} for step in ("3", "6", "12", "all")}


def record(status: str = "done", epochs: int = 4) -> dict[str, Any]:
    curve = [{"epoch": i + 1, "train_loss": 4.0 - i / 4, "val_mae": 3.9 - i / 4, "lr": 1e-3} for i in range(epochs)]
    done = status == "done"
    return {
        "status": status,
        "curve": curve,
        "best_epoch": epochs or None,
        "val": scores(3.0) if epochs else None,
        "test": scores(3.2) if done else None,
        "profile": "quick",
    }


def write_sample(folder: Path, times: int = 288) -> None:
    truth = np.random.default_rng(0).normal(60, 5, (times, 3, 2))
    truth[5:6] = np.nan
    np.savez_compressed(
        folder / "forecast_sample.npz",
        time=np.datetime64("2012-05-23T00:00", "m") + 5 * np.arange(times),
        steps=np.array([3, 6, 12]),
        step_minutes=np.array(5),
        sensor_ids=np.array(["773869", "$7_<b>"]),
        truth=truth,
        forecast=truth + 1,
    )


@pytest.mark.parametrize(
    ("cell", "drawn"),
    [
        (record(), ["loss", "horizons", "forecast"]),
        (record("stopped"), ["loss", "horizons"]),
        (record("diverged", 1), ["loss", "horizons"]),
        (record("failed", 0), []),
    ],
)
def test_what_has_numbers_is_drawn(cell: dict[str, Any], drawn: list[str], tmp_path: Path) -> None:
    write_sample(tmp_path)
    paths = draw_cell_plots(tmp_path, cell, 5, "mph")
    assert paths == [tmp_path / "plots" / f"{name}.png" for name in drawn]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_a_cell_without_a_sample_has_no_forecast_plot(tmp_path: Path) -> None:
    assert [path.stem for path in draw_cell_plots(tmp_path, record())] == ["loss", "horizons"]


def test_a_sample_of_one_time_can_be_drawn(tmp_path: Path) -> None:
    write_sample(tmp_path, times=1)
    assert draw_cell_plots(tmp_path, record())[-1].stem == "forecast"


def test_drawing_leaves_settings_and_half_files_behind_nowhere(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), drawing(tmp_path / "x.png", (2, 2)):
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "expected"), [("ab", "ab"), ("a\nb", "a b"), ("abcdefgh", "abcd…")])
def test_short_names(text: str, expected: str) -> None:
    assert short(text, 5) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["slow", "fast"], ["slow", "fast"]),
        (
            ["temporal_depth_1=1,fusion_type=gated", "temporal_depth_1=1,fusion_type=concat"],
            ["t_d_1=1,f_t=gated", "t_d_1=1,f_t=concat"],
        ),
        (["n" * 30 + "1", "n" * 30 + "2"], ["n" * 16 + "… (1)", "n" * 16 + "… (2)"]),
    ],
)
def test_no_two_names_are_cut_to_the_same(names: list[str], expected: list[str]) -> None:
    assert distinct(names, 22) == expected
