"""Markdown that shows a text as it is, whatever characters it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ablations.reports.blocks import Emphasis, Span, Strong

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\\": "&#92;", "`": "&#96;", "$": "&#36;"}
_SPECIAL = re.compile(r"[&<>|\\`$]|([*_\[\]~#!])")


def escape(text: str) -> str:
    """The text for inline use: one line, no markup, no HTML, no formulas, and no end of a table cell in it."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", " ", text).split())
    return _SPECIAL.sub(lambda found: f"\\{found[1]}" if found[1] else _ENTITIES[found[0]], line)


def inline(spans: Iterable[Span]) -> str:
    """Spans of plain text (escaped here) as one line; a space at a span's end is kept."""
    return "".join(map(_span, spans)).strip()


def _span(span: Span) -> str:
    if isinstance(span, Strong):
        return f"**{escape(span.text)}**"
    if isinstance(span, Emphasis):
        return f"*{escape(span.text)}*"
    before, after = (" " if edge.isspace() else "" for edge in (span[:1], span[-1:]))
    return f"{before}{escape(span)}{after}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A pipe table of plain texts (escaped here); the columns in ``numbers`` are set right."""
    rule = ["--:" if column in numbers else ":--" for column in range(len(header))]
    lines = [[escape(cell) for cell in header], rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code_block(lines: Iterable[str]) -> str:
    """Lines shown verbatim; a line break inside one becomes a space, so that none can close the block."""
    body = "\n".join(" ".join(line.split()) for line in lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", body)), default=0))
    return f"{fence}text\n{body}\n{fence}"
