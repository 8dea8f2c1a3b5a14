"""One look for all figures: small, quiet, safe for colour-blind readers, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from altformer.files import write_bytes

# Okabe and Ito (2008) without yellow, which is too light for lines; black is kept for the baseline
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#010203"  # texts and axes are drawn in it; black to the eye, and no other part of a figure has it
REFERENCE = INK
QUIET = "#767676"  # seen on white and on black
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "text.parse_math": False,  # names of arms may hold dollar signs
    "svg.fonttype": "none",
    "svg.hashsalt": "altformer",  # names of parts are the same each time
    "pdf.fonttype": 42,  # whole outlines: publishers refuse bitmaps of type 3
}
UNSAID = {"png": ("Software",), "pdf": ("Creator", "Producer", "CreationDate"), "svg": ("Date",)}
# Of an SVG that stands within a page: the font of every text is said once, with the rest of what the style sheet said,
# which would be said of the whole page.
_XML = "http://www.w3.org/2000/svg"
_REFERRING = ("href", "clip-path")
_FONT = re.compile(r"font-family: [^;]*;? ?")
_SVG_STYLE = "stroke-linejoin: round; stroke-linecap: butt; font-family: 'DejaVu Sans', Verdana, sans-serif"
_Element = ElementTree.Element
_LOCK = threading.Lock()  # matplotlib's settings are global


@contextmanager
def drawing(
    path: Path,
    size: tuple[float, float],
    panels: int = 1,
    note: str = "",
    *,
    stacked: bool = False,
    fixed: bool = False,
    formats: Sequence[str] = ("png",),
) -> Iterator[list[Any]]:
    """Axes side by side (or stacked, with one horizontal axis) to draw on, saved at the end.

    ``size`` in inches; ``note`` in small print at the foot. ``fixed`` leaves the room that short labels need around the
    axes instead of finding out how much they do, in a third of the time. ``formats``: ``png``, ``pdf`` and ``svg`` (to
    stand within a page, in its text colour), each in a file of the path's name.
    """
    with _LOCK, matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it, and is enough
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout=None if fixed else "constrained")
        FigureCanvasAgg(figure)
        rows, columns = (panels, 1) if stacked else (1, panels)
        if fixed:
            _leave_room(figure, rows, columns)
        yield list(figure.subplots(rows, columns, squeeze=False, sharex=stacked).ravel())
        if note:
            figure.supxlabel(note, fontsize=7, color=INK, alpha=0.7, style="italic", x=0.99, ha="right")
        for kind in formats:
            _save(figure, path.with_suffix(f".{kind}"), kind)
            figure.set_layout_engine("none")  # as laid out for the first


def _leave_room(figure: Figure, rows: int, columns: int) -> None:
    """Margins and gaps of so many inches around axes, whatever the figure's size."""
    width, height = figure.get_size_inches()
    left, right, bottom, top, beside, above = 0.6, 0.22, 0.62, 0.3, 0.75, 0.3
    each_width = (width - left - right - beside * (columns - 1)) / columns
    each_height = (height - bottom - top - above * (rows - 1)) / rows
    figure.subplots_adjust(
        left / width, bottom / height, 1 - right / width, 1 - top / height, beside / each_width, above / each_height
    )


def _save(figure: Figure, path: Path, kind: str) -> None:
    """Write the figure without a date or a version: the same bytes for the same numbers."""
    content = io.BytesIO()
    figure.savefig(
        content, dpi=160, format=kind, metadata=dict.fromkeys(UNSAID[kind]), transparent=True if kind == "svg" else None
    )
    found = content.getvalue()
    write_bytes(path, _inline_svg(found.decode(), path.stem).encode() if kind == "svg" else found)


def _inline_svg(document: str, prefix: str) -> str:
    """Matplotlib's SVG document as one element without prolog, metadata and style sheet, as wide as its place.

    What was drawn in ``INK`` takes the colour of the text around it, so that light and dark pages both fit. Ids are
    begun with ``prefix``: several figures on a page share one name space. Texts stay texts, and stay escaped.
    """
    root = ElementTree.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if _name(child.tag) in ("metadata", "style"):
                parent.remove(child)
    referred = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        element.tag, element.tail = _name(element.tag), None
        element.text = element.text if (element.text or "").strip() else None
        element.attrib = dict(_attributes(element, referred, prefix))
    root.attrib = {
        "xmlns": _XML,
        "viewBox": root.attrib["viewBox"],
        "width": "100%",
        "role": "img",
        "style": _SVG_STYLE,
    }
    return ElementTree.tostring(root, encoding="unicode")


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]


def _references(element: _Element) -> Iterator[str]:
    """The ids that an element refers to, by ``href`` or ``clip-path``."""
    for key, value in element.attrib.items():
        if _name(key) in _REFERRING:
            yield value.removeprefix("url(").removesuffix(")").removeprefix("#")


def _attributes(element: _Element, referred: set[str], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = _name(key)  # without the name space of xlink:href, which pages do without
        if name == "id":
            if value in referred:  # matplotlib gives every group one
                yield name, f"{prefix}-{value}"
        elif name in _REFERRING:
            yield name, value.replace("#", f"#{prefix}-")
        elif name == "style":
            yield name, _FONT.sub("", value.replace(INK, "currentColor"))
        else:
            yield name, " ".join(value.split())


def short(text: str, limit: int = 32) -> str:
    """A name that fits beside an axis: one line of printable characters, cut where it is long."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def distinct(names: Sequence[str], limit: int = 32) -> list[str]:
    """Short names of which no two are alike: fields by their initials (``t_d_1=2``) where a cut hides what differs.

    Where even these are alike, they are numbered by their place.
    """
    cut = [short(name, limit) for name in names]
    for found in (cut, [short(_initials(name), limit) for name in names]):
        if len(set(found)) == len(names):
            return found
    return [f"{short(name, limit - 5)} ({place})" for place, name in enumerate(names, 1)]


def _initials(name: str) -> str:
    """The words of each field before its ``=`` by their first letter."""
    return re.sub(r"[\w.]+(?==)", lambda field: re.sub(r"([^\W\d_])[^\W\d_]*", r"\1", field[0]), name)
