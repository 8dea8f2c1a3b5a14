"""The report's plots show the report's numbers, the same bytes each time, and only where there are numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations import plots
from ablations.plots import draw_plots
from experiments.figure import drawing

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
WORSE = [3.11, 3.08, 3.10]
ALL = ["differences", "validation", "horizons", "parameters"]


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The axes of every plot that is drawn, by file name."""
    kept: dict[str, list[Any]] = {}

    @contextmanager
    def keeping(path: Path, *args: Any, **options: Any) -> Iterator[list[Any]]:
        with drawing(path, *args, **options) as axes:
            kept[path.stem] = axes
            yield axes

    monkeypatch.setattr(plots, "drawing", keeping)
    return kept


def test_plots_show_the_numbers_of_the_report(make_report: Any, panels: dict[str, list[Any]], tmp_path: Path) -> None:
    data, results = make_report({"base": BASE, "good": BETTER, "bad": WORSE}, unit="mph")
    draw_plots(data, tmp_path)
    assert list(panels) == ALL
    (differences,) = panels["differences"]
    points = [line for line in differences.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx(
        [np.mean(BETTER) - np.mean(BASE), np.mean(WORSE) - np.mean(BASE)]
    )
    intervals = [list(line.get_xdata()) for line in differences.lines if len(set(line.get_xdata())) == 2]
    found = [arm.comparison for arm in data.arms if arm.comparison]
    assert intervals == [pytest.approx([one.low, one.high]) for one in found]
    assert [text.get_text() for text in differences.get_yticklabels()] == ["good", "bad"]
    assert [text.get_text().split()[0] for text in differences.texts] == ["better", "worse"]
    validation, late = panels["validation"]
    curves = [[epoch["val_mae"] for epoch in result.record["curve"]] for result in results if result.arm == "good"]
    assert validation.lines[1].get_ydata() == pytest.approx(np.mean(curves, axis=0))
    assert [text.get_text() for text in late.get_legend().get_texts()] == ["base", "good", "bad"]
    errors, by_step = panels["horizons"]
    assert errors.lines[0].get_ydata() == pytest.approx([np.mean(BASE) * factor for factor in (0.88, 1.0, 1.17)])
    assert [text.get_text() for text in by_step.get_xticklabels()] == ["15 min", "30 min", "60 min"]
    (sizes,) = panels["parameters"]
    places = [line.get_xdata()[0] for line in sizes.lines if line.get_marker() != "None"]
    assert places == [1000.0, 1100.0, 1200.0]


def test_the_band_ends_with_the_shortest_seed(
    make_report: Any, make_record: Any, panels: dict[str, list[Any]], tmp_path: Path
) -> None:
    cells = [make_record(3.0, 0, epochs=30), make_record(3.1, 1, epochs=20), make_record(3.0, 2, "diverged", 7)]
    data, _ = make_report({"a": cells})
    draw_plots(data, tmp_path)
    validation, _ = panels["validation"]
    assert [len(line.get_xdata()) for line in validation.lines] == [20, 7, 1]  # mean, diverged cell, its cross


@pytest.mark.parametrize(
    ("arms", "drawn"),
    [
        ({"a": BASE, "b": BETTER}, ALL),
        ({"a": BASE}, ["validation", "horizons"]),
        ({"a": [None], "b": [None]}, []),
        ({"a": [3.0], "b": [2.9]}, ALL),  # one seed: points without intervals
    ],
)
def test_only_what_has_numbers_is_drawn(
    arms: dict[str, Any], drawn: list[str], make_report: Any, tmp_path: Path
) -> None:
    tmp_path.joinpath("differences.png").write_bytes(b"of an earlier report")
    data, _ = make_report(arms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        titles = draw_plots(data, tmp_path)
    assert [path.stem for path in titles.values()] == drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.png" for name in drawn)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in titles.values())


def test_a_stopped_baseline_leaves_no_differences(make_report: Any, make_record: Any, tmp_path: Path) -> None:
    stopped = [make_record(3.0, seed, "stopped", 2) for seed in range(3)]
    data, _ = make_report({"a": stopped, "b": BETTER}, {"kind": "search", "scheduler": "asha"})
    assert [path.stem for path in draw_plots(data, tmp_path).values()] == ["validation", "horizons"]


def test_the_same_numbers_give_the_same_bytes(make_report: Any, tmp_path: Path) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER})
    for folder in ("one", "two"):
        draw_plots(data, tmp_path / folder)
    for name in ALL:
        one, two = ((tmp_path / folder / f"{name}.png").read_bytes() for folder in ("one", "two"))
        assert one == two


@pytest.mark.parametrize("name", ["$x$", "_hidden", "two\nlines", "<b>&", "../x", "n" * 200, "$"])
def test_any_name_can_be_drawn(name: str, make_report: Any, panels: dict[str, list[Any]], tmp_path: Path) -> None:
    data, _ = make_report({"base": BASE, name: BETTER})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_plots(data, tmp_path)
    (legend,) = (axes.get_legend() for axes in panels["parameters"])
    label = legend.get_texts()[1].get_text()
    assert label == name.replace("\n", " ") or (label.endswith("…") and name.startswith(label[:-1]))


def test_many_arms_look_different(make_report: Any) -> None:
    data, _ = make_report({f"arm {index}": [3.0 + index / 100] for index in range(24)})
    assert len({str(look) for _, look in plots._looks(data.arms)}) == 24
    assert len({(look.colour, look.marker) for _, look in plots._looks(data.arms)}) == 24, "where there is no line"
