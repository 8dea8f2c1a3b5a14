"""The report of a matrix as one HTML file that needs nothing else: no network, no fonts, no files beside it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

from ablations.reports.blocks import Block, Code, Emphasis, Figures, Paragraph, Section, Span, Strong, Table
from ablations.reports.data import ReportData
from ablations.reports.document import document

HERE = Path(__file__).parent
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def html(data: ReportData, plots: Mapping[str, str]) -> str:
    """The report's text; ``plots`` maps each plot's title to its ``<svg>`` element, which is trusted as it is.

    Its policy forbids any request, and any script but its own, which sorts tables; without scripts all can be read.
    """
    report = document(data, list(plots))
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    links = [f'<a href="#s{place}">{_line(section.title)}</a>' for place, section in enumerate(report.sections)]
    lines = [*_head(report.title, style, script), "<body>", f"<h1>{_line(report.title)}</h1>"]
    if report.marker:
        lines.append(f'<p class="note"><strong>{_line(report.marker)}</strong></p>')
    lines.append('<div class="summary">')
    lines += [text for block in report.head for text in _block(block, plots)]
    lines += ["</div>", f"<nav>{' '.join(links)}</nav>", "<main>"]
    lines += [text for place, section in enumerate(report.sections) for text in _section(section, place, plots)]
    lines += ["</main>", f"<script>{script}</script>", "</body>", "</html>"]
    return "\n".join(lines) + "\n"


def _head(title: str, style: str, script: str) -> Iterator[str]:
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src '{_hash(script)}'"
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{_line(title)}</title>"
    yield f"<style>\n{style}</style>"
    yield "</head>"


def _section(section: Section, place: int, plots: Mapping[str, str]) -> Iterator[str]:
    yield f'<section id="s{place}">'
    yield f"<h2>{_line(section.title)}</h2>"
    if section.long:
        yield "<details><summary>show</summary>"
    for block in section.blocks:
        yield from _block(block, plots)
    if section.long:
        yield "</details>"
    yield "</section>"


def _block(block: Block, plots: Mapping[str, str]) -> Iterator[str]:
    if isinstance(block, Paragraph):
        note = ' class="note"' if block.note else ""
        yield f"<p{note}>{''.join(map(_span, block.spans))}</p>"
    elif isinstance(block, Code):
        yield f"<pre>{chr(10).join(map(_line, block.lines))}</pre>"
    elif isinstance(block, Figures):
        for title in block.titles:
            yield f"<figure><figcaption>{_line(title)}</figcaption>{plots[title]}</figure>"
    else:
        yield from table_lines(_verdict_first(block) if block.tones else block)


def _verdict_first(table: Table) -> Table:
    """The last column, which sums up a row, and those of the same part beside the row's name: seen in any window."""
    last = len(table.header) - 1
    part = table.second_part or last
    order = [0, last, *range(part, last), *range(1, part)]
    return replace(
        table,
        header=tuple(table.header[at] for at in order),
        rows=tuple(tuple(row[at] for at in order) for row in table.rows),
        numbers=tuple(place for place, at in enumerate(order) if at in table.numbers),
        second_part=0,
    )


def table_lines(table: Table) -> Iterator[str]:
    """The first cell of a row names it; a list of names and values has no other column to sort by."""
    sortable = ' class="sortable"' if len(table.rows) > 1 and (table.numbers or len(table.header) > 2) else ""
    yield f'<div class="wide" tabindex="0" role="region" aria-label="table">\n<table{sortable}>'
    heads = [f'<th scope="col"{_class(table, at)}>{_line(text)}</th>' for at, text in enumerate(table.header)]
    yield f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>"
    for place, row in enumerate(table.rows):
        tone = table.tones[place] if table.tones else ""
        cells = [_cell(table, at, text, tone if at < 2 else "") for at, text in enumerate(row)]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody>\n</table>\n</div>"


def _cell(table: Table, column: int, text: str, tone: str) -> str:
    if column == 0:
        return f'<th scope="row"{_class(table, column, tone)}>{_line(text)}</th>'
    value = sort_value(text) if column in table.numbers else None
    given = "" if value is None else f' data-value="{value!r}"'
    return f"<td{_class(table, column, tone)}{given}>{_line(text)}</td>"


def _class(table: Table, column: int, tone: str = "") -> str:
    names = " ".join(filter(None, ["number" if column in table.numbers else "text", tone]))
    return f' class="{names}"'


def sort_value(text: str) -> float | None:
    """By what a cell of numbers is sorted: its first number; a bound such as < 0.001 before it; None without one."""
    found = _NUMBER.search(text)
    if found is None:
        return None
    value = float(found[0].replace(",", ""))
    return value / 2 if text.startswith("<") else value


def _span(span: Span) -> str:
    if isinstance(span, Strong):
        return f"<strong>{_line(span.text)}</strong>"
    if isinstance(span, Emphasis):
        return f"<em>{_line(span.text)}</em>"
    return _line(span)


def _line(text: str) -> str:
    """The text escaped, on one line, without the control characters that HTML does not allow."""
    return escape(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text))


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
