"""The report of a matrix as a LaTeX document for pdflatex, with a table of arms to take into a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ablations.reports.blocks import Block, Code, Figures, Paragraph, Table
from ablations.reports.data import ReportData
from ablations.reports.document import document
from ablations.reports.latex_text import broken, cell, code, escape, inline, row

Thing = TypeVar("Thing")

PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage{array}
\usepackage{graphicx}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.5\baselineskip}
\emergencystretch=3em"""
# Only a table that is wider than the text is made smaller.
FIT = (
    r"\providecommand{\fitwidth}[1]{\sbox0{#1}\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}"
    r"\else\usebox0\fi}"
)
FEW_COLUMNS = 6
LONG_TEXT = 28  # letters of a column that is broken into lines
TEXT_WIDTH = 108  # letters in a line, roughly, at the size of the tables
COLUMN_GAP = 2  # letters
SHRUNK = 1.25  # times the page: so much wider a table may be, before it is set in parts
BETWEEN_PARTS = "\n\\par\\medskip\n"
PAGE_LINES = 50  # with which a page is full
FEW_ROWS = 12  # that are kept on one page, below their heading


def latex(data: ReportData, plots: Mapping[str, str]) -> str:
    """The report's text; ``plots`` maps each plot's title to its file relative to the report (PDF or PNG).

    The table of arms stands between the comments ``table begins`` and ``table ends`` and needs booktabs and graphicx.
    """
    return "\n".join(_lines(data, plots)) + "\n"


def _lines(data: ReportData, plots: Mapping[str, str]) -> Iterator[str]:
    report = document(data, list(plots))
    yield PREAMBLE
    yield r"\begin{document}"
    yield rf"\section*{{{escape(report.title)}}}"
    if report.marker:
        yield rf"\textbf{{{escape(report.marker)}}}"
        yield ""
    for block in report.head:
        yield from _block(block, plots)
    for section in report.sections:
        yield rf"\subsection*{{{escape(section.title)}}}"
        for block in section.blocks:
            yield from _block(block, plots)
    yield r"\end{document}"


def _block(block: Block, plots: Mapping[str, str]) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield inline(block.spans)
        yield ""
    elif isinstance(block, Code):
        yield r"\begin{flushleft}\scriptsize"
        yield "\n\n".join(map(code, block.lines))
        yield r"\end{flushleft}"
    elif isinstance(block, Figures):
        for title in block.titles:
            yield r"\begin{center}"
            yield rf"\includegraphics[width=\linewidth]{{{plots[title]}}}\\"
            yield rf"{{\small {escape(title)}}}"
            yield r"\end{center}"
    elif block.caption:
        yield from _paper_table(block)
    elif _is_of_texts(block):
        yield from _text_table(block)
    else:
        yield from _number_table(block)


def _is_of_texts(table: Table) -> bool:
    """Whether a table has long texts, and room for them beside its other columns."""
    widths = [(_width(table, column), column in table.numbers) for column in range(len(table.header))]
    rest = sum(width + 2 for width, is_number in widths if is_number or width <= LONG_TEXT)
    return rest < TEXT_WIDTH / 2 and any(width > LONG_TEXT and not is_number for width, is_number in widths)


def _paper_table(table: Table) -> Iterator[str]:
    yield "% table begins"
    yield FIT
    for number, parts in enumerate(_pages(_parts(table), _height)):
        again = r"{\small Table~\thetable, continued}\par"
        yield r"\begin{table}[htbp]"
        yield r"\centering"
        yield again if number else rf"\caption{{{escape(table.caption)}}}"
        yield r"\smallskip\footnotesize\setlength{\tabcolsep}{4pt}"
        yield BETWEEN_PARTS.join(map(_fitted, parts))
        yield r"\end{table}"
    yield "% table ends"


def _parts(table: Table) -> Iterator[Table]:
    """A table as one or more, each with the rows' names, so that none is much wider than a page or higher than one."""
    end = table.second_part or len(table.header)
    widths = [min(_width(table, at), LONG_TEXT) + COLUMN_GAP for at in range(end)]
    count = math.ceil(sum(widths[1:]) / (SHRUNK * max(TEXT_WIDTH - widths[0], TEXT_WIDTH / 2)))
    bounds = [1 + part * (end - 1) // count for part in range(count + 1)]
    ranges = [*map(range, bounds[:-1], bounds[1:]), *([range(end, len(table.header))] if table.second_part else [])]
    for columns in ranges:
        part = _columns(table, [0, *columns])
        for rows in _pages(part.rows, partial(_row_height, part)):
            yield replace(part, rows=tuple(rows))


def _pages(things: Iterable[Thing], height: Callable[[Thing], int]) -> Iterator[list[Thing]]:
    """Things below each other, together as long as they fit on a page."""
    page: list[Thing] = []
    filled = 0
    for thing in things:
        if page and filled + height(thing) > PAGE_LINES:
            yield page
            page, filled = [], 0
        page.append(thing)
        filled += height(thing)
    yield page


def _height(table: Table) -> int:
    return sum(_row_height(table, texts) for texts in table.rows)


def _row_height(table: Table, texts: Sequence[str]) -> int:
    """Lines of a row, whose long texts are broken."""
    letters = _narrow(table) * TEXT_WIDTH * 0.85  # lines are not full
    return max(math.ceil(len(text) / letters) if _is_long(table, at) else 1 for at, text in enumerate(texts))


def _narrow(table: Table) -> float:
    """The share of the page's width that a column of long texts has in a table of numbers."""
    return 0.2 if len(table.header) > FEW_COLUMNS else 0.3


def _is_long(table: Table, column: int) -> bool:
    return column not in table.numbers and _width(table, column) > LONG_TEXT


def _fitted(table: Table) -> str:
    return rf"\fitwidth{{{_tabular(table)}}}"


def _columns(table: Table, columns: Sequence[int]) -> Table:
    """Some of a table's columns."""
    header, *rows = (tuple(texts[at] for at in columns) for texts in (table.header, *table.rows))
    numbers = tuple(place for place, at in enumerate(columns) if at in table.numbers)
    return Table(header, tuple(rows), numbers)


def _number_table(table: Table) -> Iterator[str]:
    yield r"\begin{center}\footnotesize\setlength{\tabcolsep}{4pt}"
    yield BETWEEN_PARTS.join(map(_fitted, _parts(table)))
    yield r"\end{center}"


def _tabular(table: Table) -> str:
    narrow = rf"p{{{_narrow(table)}\linewidth}}"
    long = [_is_long(table, at) for at in range(len(table.header))]
    columns = "".join(narrow if breaks else "r" if at in table.numbers else "l" for at, breaks in enumerate(long))
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", row(map(escape, table.header)), r"\midrule"]
    for texts in table.rows:
        cells = enumerate(texts)
        lines.append(row(broken(text) if long[at] else cell(text, at in table.numbers) for at, text in cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _text_table(table: Table) -> Iterator[str]:
    """A table whose long texts are broken into lines; with many rows it goes on over pages."""
    widths = [_width(table, column) for column in range(len(table.header))]
    long = [_is_long(table, column) for column in range(len(widths))]
    left = TEXT_WIDTH - sum(width + 2 for width, breaks in zip(widths, long, strict=True) if not breaks)
    share = sum(min(width, TEXT_WIDTH) for width, breaks in zip(widths, long, strict=True) if breaks)
    columns = []
    for column, width in enumerate(widths):
        part = max(left, TEXT_WIDTH / 3) / TEXT_WIDTH * min(width, TEXT_WIDTH) / share * 0.95
        ragged = rf">{{\raggedright\arraybackslash}}p{{{part:.3f}\linewidth}}"
        columns.append(ragged if long[column] else "r" if column in table.numbers else "l")
    few = len(table.rows) <= FEW_ROWS
    yield r"\begin{center}\footnotesize\setlength{\tabcolsep}{3pt}"
    yield rf"\begin{{{'tabular' if few else 'longtable'}}}{{{''.join(columns)}}}"
    yield r"\toprule"
    yield row(map(escape, table.header))
    yield r"\midrule" + ("" if few else r"\endhead")
    for texts in table.rows:
        yield row(broken(text) if long[at] else cell(text, at in table.numbers) for at, text in enumerate(texts))
    yield r"\bottomrule"
    yield rf"\end{{{'tabular' if few else 'longtable'}}}"
    yield r"\end{center}"


def _width(table: Table, column: int) -> int:
    return max(len(table.header[column]), *(len(texts[column]) for texts in table.rows), 1)
