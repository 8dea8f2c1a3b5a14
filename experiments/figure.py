"""One look for all figures: small, quiet, safe for colour-blind readers, the same bytes for the same numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito (2008) without yellow, which is too light for lines; black is kept for the baseline
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
REFERENCE = "#000000"
QUIET = "#666666"
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "text.parse_math": False,  # names of arms may hold dollar signs
}
_LOCK = threading.Lock()  # matplotlib's settings are global


@contextmanager
def drawing(
    path: Path, size: tuple[float, float], panels: int = 1, note: str = "", *, stacked: bool = False
) -> Iterator[list[Any]]:
    """Axes side by side (or stacked, with one time axis) to draw on, saved as a PNG at the end.

    ``size`` in inches; ``note`` in small print at the foot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        rows, columns = (panels, 1) if stacked else (1, panels)
        yield list(figure.subplots(rows, columns, squeeze=False, sharex=stacked).ravel())
        if note:
            figure.supxlabel(note, fontsize=7, color=QUIET, style="italic", x=0.99, ha="right")
        temporary = path.with_name(f".{path.name}")
        figure.savefig(temporary, dpi=160, format="png", metadata={"Software": None})
        temporary.replace(path)


def short(text: str, limit: int = 32) -> str:
    """A name that fits beside an axis: one line of printable characters, cut where it is long."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
