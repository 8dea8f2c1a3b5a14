"""CSV that a spreadsheet shows as it is, whatever characters a name holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def defused(text: str) -> str:
    """A text that a spreadsheet would run as a formula with an apostrophe before it; ``armed`` takes it away again."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def armed(text: str) -> str:
    """The text as it was before ``defused``."""
    return text.removeprefix("'")


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows of texts and numbers as they are to stand there, quoted where RFC 4180 asks for it."""
    return "".join(",".join(map(_quoted, row)) + "\n" for row in rows)


def _quoted(text: str) -> str:
    """The csv module leaves a lone carriage return bare, which ends the row for its own reader."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
