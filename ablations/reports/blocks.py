"""A report's layout without its markup: sections of paragraphs, tables and code, which each format sets its own way.

All texts are plain and unescaped; escaping is the formats' part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Strong:
    """A run of text that must not be missed."""

    text: str


@dataclass(frozen=True)
class Emphasis:
    """A term, or a verdict named in a sentence."""

    text: str


Span = str | Strong | Emphasis


@dataclass(frozen=True)
class Paragraph:
    """One paragraph; ``note``: set apart, for what a reader must know before the numbers."""

    spans: tuple[Span, ...]
    note: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of texts; ``numbers`` are the columns set right and sorted by value.

    ``tones`` has one word for each row (better, worse, trouble or nothing), by which a format may colour its last cell.
    ``caption`` makes a table stand alone, outside the report. Where a page is too narrow for a table it may be set in
    parts; the columns from ``second_part`` on, which end with the verdict, are one that is never torn.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    tones: tuple[str, ...] = ()
    caption: str = ""
    second_part: int = 0


@dataclass(frozen=True)
class Code:
    """Lines shown verbatim."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """The plots with these titles."""

    titles: tuple[str, ...]


Block = Paragraph | Table | Code | Figures


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; ``long``: of use to few readers, so that a format may fold it."""

    title: str
    blocks: tuple[Block, ...]
    long: bool = False


@dataclass(frozen=True)
class Document:
    """A whole report; ``marker`` is a warning that stands beside every number, as in the sections."""

    title: str
    marker: str
    head: tuple[Block, ...]
    sections: tuple[Section, ...]


def as_sentence(text: str) -> str:
    """A text that begins small and has no full stop as a sentence; nothing stays nothing."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def paragraph(*spans: Span) -> Paragraph:
    """A paragraph of these spans."""
    return Paragraph(spans)


def table(
    header: Iterable[str], rows: Iterable[Iterable[str]], numbers: Iterable[int] = (), tones: Iterable[str] = ()
) -> Table:
    """A table of any texts."""
    return Table(tuple(header), tuple(tuple(row) for row in rows), tuple(numbers), tuple(tones))
