"""The report's plots show the report's numbers, the same bytes each time, and only where there are numbers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ablations.error_profiles import Band, ErrorProfiles
from ablations.reports import plots, plots_arms
from ablations.reports.plots import draw_plots, inline_svgs
from experiments.figure import drawing

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
WORSE = [3.11, 3.08, 3.10]
ALL = ["differences", "validation", "horizons", "parameters", "seconds"]  # without error profiles


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
    seeds = [line for line in differences.lines if line.get_marker() == "."]
    assert seeds[0].get_xdata() == pytest.approx(np.subtract(BETTER, BASE))
    [band] = differences.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-data.margin, 2 * data.margin)) and data.margin > 0
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
    (times,) = panels["seconds"]
    assert {line.get_xdata()[0] for line in times.lines} == {150.0}


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
    for kind in ("png", "pdf"):
        tmp_path.joinpath(f"differences.{kind}").write_bytes(b"of an earlier report")
    data, _ = make_report(arms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        titles = draw_plots(data, tmp_path)
    assert [path.stem for path in titles.values()] == drawn
    files = [f"{name}.{kind}" for name in drawn for kind in ("pdf", "png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in titles.values())
    assert all(path.with_suffix(".pdf").read_bytes().startswith(b"%PDF") for path in titles.values())
    assert list(inline_svgs(data)) == list(titles)


def test_a_stopped_baseline_leaves_no_differences(make_report: Any, make_record: Any, tmp_path: Path) -> None:
    stopped = [make_record(3.0, seed, "stopped", 2) for seed in range(3)]
    data, _ = make_report({"a": stopped, "b": BETTER}, {"kind": "search", "scheduler": "asha"})
    assert [path.stem for path in draw_plots(data, tmp_path).values()] == ["validation", "horizons"]


def test_the_same_numbers_give_the_same_bytes(make_report: Any, tmp_path: Path) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER})
    for folder in ("one", "two"):
        draw_plots(data, tmp_path / folder)
    for name in ALL:
        for kind in ("png", "pdf"):
            one, two = ((tmp_path / folder / f"{name}.{kind}").read_bytes() for folder in ("one", "two"))
            assert one == two, (name, kind)
    assert inline_svgs(data) == inline_svgs(data)


def test_any_name_can_be_drawn(make_report: Any, panels: dict[str, list[Any]], tmp_path: Path) -> None:
    names = ["$x$", "_hidden", "two\nlines", "<b>&", "../x", "n" * 200, "$", "\ud800", "深い", 'id="a"']
    data, _ = make_report({"base": BASE, **dict.fromkeys(names, BETTER)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_plots(data, tmp_path)
    (legend,) = (axes.get_legend() for axes in panels["parameters"])
    labels = [text.get_text() for text in legend.get_texts()]
    for name, label in zip(names, labels[1:], strict=True):
        assert label == "".join(" " if letter in "\n\ud800" else letter for letter in name) or (
            label.endswith("…") and name.startswith(label[:-1])
        )
    for svg in inline_svgs(data).values():
        text = "".join(ElementTree.fromstring(svg).itertext())
        assert all(label in text for label in labels[1:]), "whatever it holds, it is text"


def test_many_arms_look_different(make_report: Any) -> None:
    data, _ = make_report({f"arm {index}": [3.0 + index / 100] for index in range(24)})
    assert len({str(look) for _, look in plots_arms.looks(data.arms)}) == 24
    assert len({(look.colour, look.marker) for _, look in plots_arms.looks(data.arms)}) == 24, "where there is no line"


def profiles(sensors: int, bins: int = 48) -> ErrorProfiles:
    rng = np.random.default_rng(0)
    base = np.sort(rng.uniform(1, 5, sensors))
    day = rng.uniform(2, 4, bins)
    day[3] = np.nan
    bands = [
        Band(*(tuple(None if np.isnan(value) else float(value) for value in day * by + at) for at in (0.0, -0.1, 0.1)))
        for by in (1.0, 0.9, -0.1)
    ]
    ids = tuple(f"s{place}" for place in range(sensors))
    best = tuple((base + rng.normal(-0.1, 0.2, sensors)).tolist())
    return ErrorProfiles("base", "good", (0, 1, 2), 1440 // bins, *bands, ids, tuple(base.tolist()), best)


def test_profiles_are_drawn_by_time_of_day_and_sensor(
    make_report: Any, panels: dict[str, list[Any]], tmp_path: Path
) -> None:
    data, _ = make_report({"base": BASE, "good": BETTER, "bad": WORSE}, unit="mph")
    found = profiles(9)
    draw_plots(replace(data, profiles=found), tmp_path)
    errors, difference = panels["time_of_day"]
    hours = errors.lines[1].get_xdata()
    assert (hours[0], hours[-1]) == (0.25, 23.75)
    assert errors.lines[1].get_ydata() == pytest.approx(np.array(found.best_by_time.mean, float), nan_ok=True)
    assert difference.lines[1].get_ydata() == pytest.approx(np.array(found.difference_by_time.mean, float), nan_ok=True)
    looks = {arm.name: look for arm, look in plots_arms.looks(data.arms)}
    assert errors.lines[1].get_color() == looks["good"].colour, "as in every other plot"
    sensors, strip = panels["sensors"]
    assert sensors.lines[0].get_ydata() == pytest.approx(found.baseline_by_sensor)
    [bars] = strip.collections
    assert [bar[1][1] for bar in bars.get_segments()] == pytest.approx(found.differences)
    blue_less_red = [colour[2] - colour[0] for colour in bars.get_colors()]
    assert np.sign(blue_less_red).tolist() == [-np.sign(value) for value in found.differences]
    assert f"at {found.better} of 9 sensors" in strip.get_title(loc="left")


def test_thousands_of_sensors_make_hundreds_of_bars(
    make_report: Any, panels: dict[str, list[Any]], tmp_path: Path
) -> None:
    data, _ = make_report({"base": BASE, "good": BETTER})
    found = profiles(2000)
    draw_plots(replace(data, profiles=found), tmp_path)
    [bars] = panels["sensors"][1].collections
    heights = [bar[1][1] for bar in bars.get_segments()]
    assert len(heights) == 600 and np.mean(heights) == pytest.approx(np.mean(found.differences), rel=0.05)


def test_a_wide_range_is_drawn_on_a_logarithmic_axis(
    make_report: Any, make_record: Any, panels: dict[str, list[Any]], tmp_path: Path
) -> None:
    slow = [make_record(3.0, seed, train_seconds=9000.0) for seed in range(3)]
    data, _ = make_report({"base": BASE, "slow": slow})
    draw_plots(data, tmp_path)
    assert panels["seconds"][0].get_xscale() == "log" and panels["parameters"][0].get_xscale() == "linear"


def test_figures_within_a_page_need_nothing_and_share_nothing(make_report: Any) -> None:
    data, _ = make_report({"base": BASE, "good": BETTER, "<script>x</script> url(#a)": WORSE}, unit="mph")
    svgs = inline_svgs(replace(data, profiles=profiles(20)))
    assert len(svgs) == 7
    taken: set[str] = set()
    for svg in svgs.values():
        assert svg.startswith("<svg ") and svg.endswith("</svg>")
        root = ElementTree.fromstring(svg)
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags <= {"svg", "g", "defs", "path", "use", "text", "tspan", "clipPath", "rect"}
        assert root.get("width") == "100%" and root.get("viewBox") and "height" not in root.attrib
        ids = {element.get("id") for element in root.iter()} - {None}
        used = set(re.findall(r'(?:href="|clip-path="url\()#([^")]+)', svg))
        assert used == ids and not ids & taken
        taken |= ids
        assert "currentColor" in svg and "#010203" not in svg and "#ffffff" not in svg
        assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
